#include "parasite/host/puppets.h"

#include <linux/futex.h>
#include <signal.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/format.h"
#include "kernel/abi.h"
#include "kernel/process.h"
#include "kernel/ptrace.h"

namespace dormouse::parasite {
namespace {

constexpr std::uint64_t kUserEnd = 0x7fff'ffff'f000;

// The C library has registered its rseq area with the kernel; once its memory is gone, the next
// preemption would be a segmentation fault.
void unregister_rseq() {
  constexpr unsigned kAreaBytes = 32;  // glibc 2.35 to 2.41 register the original size
  auto* area = static_cast<std::byte*>(__builtin_thread_pointer()) + __rseq_offset;
  ::syscall(SYS_rseq, area, kAreaBytes, RSEQ_FLAG_UNREGISTER, RSEQ_SIG);
}

}  // namespace

Result<std::unique_ptr<PuppetYard>> PuppetYard::create(Keeper& keeper, std::uint64_t address,
                                                       std::uint32_t slots, std::size_t program_bytes) {
  Fd memory = TRY(sys::memfd_create("dormouse-puppets"));
  const std::size_t size = Area::size_for(slots, program_bytes);
  TRY(sys::ftruncate(memory.get(), size));
  std::unique_ptr<PuppetYard> yard(new PuppetYard(keeper, std::move(memory)));
  yard->area_ = TRY(Area::adopt(yard->memory_.get(), address, slots, size));
  return yard;
}

PuppetYard::~PuppetYard() {
  for (const std::uint32_t slot : prepared_) keeper_.dismiss(area_.cell(slot));
}

Result<> PuppetYard::prepare(std::uint32_t slot, bool process) {
  blob::Cell& cell = area_.cell(slot);
  keeper_.dismiss(cell);  // of a puppet that has ended
  cell = {};
  cell.leave_by = process ? blob::Leave::kExitGroup : blob::Leave::kExitThread;
  cell.area = area_.address();
  cell.stack_top = area_.stack_top(slot);
  TRY(keeper_.enlist(cell));
  prepared_.push_back(slot);
  return {};
}

void PuppetYard::become(std::uint32_t slot, int keep_first, int keep_last) {
  auto* at = reinterpret_cast<void*>(area_.address());
  const void* mapped = ::mmap(at, area_.size(), PROT_READ | PROT_WRITE | PROT_EXEC,
                              MAP_SHARED | MAP_FIXED_NOREPLACE, memory_.get(), 0);
  if (mapped != at) ::_exit(1);
  const std::uint64_t all = ~std::uint64_t{0};
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, nullptr, sizeof all);
  unregister_rseq();
  if (keep_first > 0) ::close_range(0, static_cast<unsigned>(keep_first) - 1, 0);
  ::close_range(static_cast<unsigned>(keep_last) + 1, ~0u, 0);
  asm volatile(
      "mov %[stack], %%rsp\n\t"
      "xor %%ebp, %%ebp\n\t"
      "jmp *%[entry]"
      :
      : [stack] "r"(area_.stack_top(slot) - 8), [entry] "r"(area_.entry()), "D"(area_.cell_address(slot))
      : "memory");
  __builtin_unreachable();
}

void PuppetYard::append_unmap_all(Program& program) const {
  const std::uint64_t begin = area_.address(), end = begin + area_.size();
  program.call("empty the address space below the area", SYS_munmap, {0, begin});
  program.call("empty the address space above the area", SYS_munmap, {end, kUserEnd - end});
}

void PuppetYard::append_spawn(Program& program, const Puppet& child, std::uint64_t flags,
                              int exit_signal) const {
  const DataRef tid = program.value(std::int64_t{child.ns_tid});
  abi::CloneArgs args;
  args.flags = flags;
  args.exit_signal = static_cast<std::uint64_t>(exit_signal);
  args.stack = area_.stack_bottom(child.slot);
  args.stack_size = area_.stack_top(child.slot) - args.stack;
  args.set_tid_size = child.ns_tid != 0 ? 1 : 0;
  const DataRef at = program.value(args);
  if (child.ns_tid != 0) program.point(at + offsetof(abi::CloneArgs, set_tid), tid);
  program.perform(OpCode::kSpawn, format("create {}", child.name), {at, sizeof args, area_.cell_address(child.slot)},
                  child.ns_tid != 0 ? exactly(child.ns_tid) : ok());
}

Result<Placed> PuppetYard::run(const Puppet& puppet, const Program& program,
                               std::chrono::milliseconds patience) {
  area_.rewind();
  Batch batch(keeper_);
  TRY(batch.add(area_, puppet.slot, puppet.tid, puppet.name, program));
  TRY(batch.run(patience));
  return batch.placed(0);
}

Result<> PuppetYard::seize(const Puppet& puppet) {
  constexpr unsigned long kOptions = PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD;
  Result<> seized = sys::ptrace::seize(puppet.tid, kOptions | PTRACE_O_SUSPEND_SECCOMP);
  if (!seized && seized.error().is_kernel(EPERM)) seized = sys::ptrace::seize(puppet.tid, kOptions);
  if (!seized) return fail(std::move(seized).error().owner(puppet.name));
  return {};
}

}  // namespace dormouse::parasite
