#include "engine/memory/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <xxhash.h>

#include <algorithm>
#include <optional>

#include "base/format.h"
#include "base/pages.h"
#include "engine/memory/chunks.h"
#include "engine/memory/vma_kind.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

// Of those that mapped it: what made the object what it is.
constexpr std::uint32_t kObjectFlags = MAP_HUGETLB | 0x3fu << MAP_HUGE_SHIFT | MAP_NORESERVE;

}  // namespace

// A memfd would show another name in /proc/PID/maps.
Result<Fd> make_shared_memory(std::uint64_t bytes, std::uint32_t more_flags) {
  const int flags = MAP_SHARED | MAP_ANONYMOUS | static_cast<int>(more_flags);
  const std::uint64_t unit = page_bytes_of(more_flags);
  const std::uint64_t mapped = std::max((bytes + unit - 1) / unit, std::uint64_t{1}) * unit;
  const auto mapping = TRY(sys::Mapping::map(-1, mapped, PROT_READ | PROT_WRITE, flags));
  const auto start = reinterpret_cast<std::uint64_t>(mapping.data());
  Fd object = TRY(sys::openat(AT_FDCWD, format("/proc/self/map_files/{:x}-{:x}", start, start + mapped), O_RDWR));
  if (bytes != mapped) TRY(sys::ftruncate(object.get(), bytes));
  return object;
}

// A window at a time, so that the engine's own memory stays small whatever the object's size.
Result<> fill_shared_memory(int object, std::uint64_t size_bytes, const ShmemImage& image,
                            const RestoreContext& context) {
  if (image.pages.empty()) return {};
  if (const std::uint64_t end = image.pages.back().end; end > (size_bytes + kPage - 1) / kPage * kPage)
    return fail(Error::corrupt(format("saved pages up to {:#x} lie beyond the object's {} bytes", end, size_bytes)));
  // Of huge pages only whole ones can be mapped.
  const auto unit = std::max(kPage, static_cast<std::uint64_t>(TRY(sys::fstatfs(object)).f_bsize));
  std::vector<std::byte> buffer;
  std::optional<std::uint32_t> opened;
  Fd pages;
  for (const Chunk& chunk : cut_in_place(image.pages)) {
    const std::string name = context.page_file_name(chunk.file);
    if (opened != chunk.file) pages = TRY(context.open_page_file(*(opened = chunk.file)));
    buffer.resize(chunk.bytes);
    TRY_OR(sys::pread_exactly(pages.get(), buffer, chunk.offset), std::move(e).object(name));
    const auto sums = context.page_checksums(chunk.file);
    if (chunk.checksum_index() < sums.size() && chunk.is_whole(context.image.page_files[chunk.file].bytes) &&
        XXH64(buffer.data(), buffer.size(), 0) != sums[chunk.checksum_index()])
      return fail(Error::corrupt(format("checksum of the pages at offset {} is wrong", chunk.offset))
                      .object(name).remedy("the file was damaged after the checkpoint"));
    std::size_t done = 0;
    for (const Piece& piece : chunk.pieces) {
      const std::uint64_t start = piece.address / unit * unit, skip = piece.address - start;
      const auto window = TRY(sys::Mapping::map(object, (skip + piece.bytes + unit - 1) / unit * unit,
                                                PROT_READ | PROT_WRITE, MAP_SHARED, start));
      std::copy_n(buffer.data() + done, piece.bytes, window.data() + skip);
      done += piece.bytes;
    }
  }
  return {};
}

Result<SharedMemory> SharedMemory::make(const RestoreContext& context) {
  struct Kind {
    std::uint64_t bytes = 0;
    std::uint32_t flags = 0;
  };
  std::map<std::uint64_t, Kind> wanted;
  for (const ImageTask& task : context.image.tasks) {
    if (!task.mm) continue;
    for (const pb::vma_entry& vma : task.mm->vmas()) {
      if (!is_shared_anonymous(vma)) continue;
      Kind& kind = wanted[vma.shmid()];
      kind.bytes = std::max(kind.bytes, vma.pgoff() + (vma.end() - vma.start()));
      kind.flags = vma.flags();
    }
  }
  SharedMemory shared;
  for (auto& [shmid, kind] : wanted) {
    const ShmemImage& image = context.image.shmem.at(shmid);
    for (const PageRun& run : image.pages) {
      kind.bytes = std::max(kind.bytes, run.end);
      shared.pages_ += (run.end - run.start) / kPage;
    }
    const std::string name = format("shared memory {}", shmid);
    Fd object = TRY_OR(make_shared_memory(kind.bytes, kind.flags & kObjectFlags), std::move(e).object(name));
    TRY_OR(fill_shared_memory(object.get(), kind.bytes, image, context), std::move(e).object(name));
    shared.objects_.emplace(shmid, std::move(object));
  }
  return shared;
}

}  // namespace dormouse::engine
