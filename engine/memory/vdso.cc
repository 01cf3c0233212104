#include "engine/memory/vdso.h"

#include <cstring>

#include "base/format.h"
#include "engine/memory/chunks.h"
#include "engine/memory/vma_kind.h"
#include "kernel/file.h"
#include "kernel/proc/directory.h"
#include "parasite/host/gadgets.h"

namespace dormouse::engine {
namespace {

// The saved bytes of [start, end), if the image has all of them.
Result<std::vector<std::byte>> saved_bytes(const RestoreContext& context, const ImageTask& task,
                                           std::uint64_t start, std::uint64_t end) {
  std::vector<std::byte> bytes;
  for (const PageRun& run : task.pages) {
    if (run.start > start || end > run.end) continue;
    const Fd pages = TRY(context.open_page_file(run.file));
    bytes.resize(end - start);
    TRY(sys::pread_exactly(pages.get(), bytes, run.offset + (start - run.start)));
    break;
  }
  return bytes;
}

}  // namespace

Result<Vdso> own_vdso() {
  Vdso own;
  for (const auto all = TRY(TRY(proc::ProcDir::self()).maps()); const proc::Vma& vma : all) {
    if (vma.name.starts_with("[vvar")) own.vvar_bytes += vma.size_bytes();
    if (vma.name != "[vdso]") continue;
    const auto* begin = reinterpret_cast<const std::byte*>(vma.start);
    own.code.assign(begin, begin + vma.size_bytes());
    own.code_bytes = vma.size_bytes();
  }
  const auto at = parasite::find_syscall(own.code);
  if (!at) return fail(Error::unsupported("this kernel has no vdso with a system call in it"));
  own.syscall_offset = *at;
  return own;
}

std::uint64_t vdso_address(const ImageTask& task) {
  for (const pb::vma_entry& vma : task.mm->vmas())
    if (vma.status() & vma_status::kVdso) return vma.start();
  return 0;
}

Result<> check_vdso(const RestoreContext& context, const Vdso& own) {
  for (const ImageTask& task : context.image.tasks) {
    if (!task.mm) continue;
    const auto differs = [&] {
      return fail(Error::unsupported("the kernel code that was mapped into it (vdso) is not this kernel's")
                      .object(format("task {} ({})", task.tree.pid(), task.core.tc().comm()))
                      .remedy("restore on a node that runs the kernel the checkpoint was made on"));
    };
    std::uint64_t vvar_start = 0, vvar_end = 0, code_start = 0, code_end = 0;
    for (const pb::vma_entry& vma : task.mm->vmas()) {
      if (vma.status() & vma_status::kVvar) {
        if (vvar_end != vma.start()) vvar_start = vma.start();
        vvar_end = vma.end();
      }
      if (vma.status() & vma_status::kVdso) code_start = vma.start(), code_end = vma.end();
    }
    if (code_start == 0 && vvar_start == 0) continue;
    if (code_end - code_start != own.code_bytes || vvar_end - vvar_start != own.vvar_bytes || vvar_end != code_start)
      return differs();
    const auto saved = TRY(saved_bytes(context, task, code_start, code_end));
    if (saved.empty() || saved == own.code) continue;
    TRY(context.in.verify_pages());  // damaged is another thing than different
    return differs();
  }
  return {};
}

}  // namespace dormouse::engine
