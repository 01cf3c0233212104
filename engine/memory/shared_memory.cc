#include "engine/memory/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <xxhash.h>

#include <algorithm>
#include <optional>

#include "base/format.h"
#include "engine/memory/chunks.h"
#include "engine/memory/vma_kind.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

constexpr std::uint64_t kPage = 4096;

// As mmap(MAP_SHARED | MAP_ANONYMOUS) makes it: a memfd would show another name in /proc/PID/maps.
Result<Fd> make_object(std::uint64_t bytes) {
  const auto mapping = TRY(sys::Mapping::map(-1, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS));
  const auto start = reinterpret_cast<std::uint64_t>(mapping.data());
  return sys::openat(AT_FDCWD, format("/proc/self/map_files/{:x}-{:x}", start, start + bytes), O_RDWR);
}

// A window at a time, so that the engine's own memory stays small whatever the object's size.
Result<> fill(int object, const ShmemImage& image, const RestoreContext& context) {
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
      const auto window = TRY(sys::Mapping::map(object, piece.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, piece.address));
      std::copy_n(buffer.data() + done, piece.bytes, window.data());
      done += piece.bytes;
    }
  }
  return {};
}

}  // namespace

Result<SharedMemory> SharedMemory::make(const RestoreContext& context) {
  std::map<std::uint64_t, std::uint64_t> sizes;
  for (const ImageTask& task : context.image.tasks) {
    if (!task.mm) continue;
    for (const pb::vma_entry& vma : task.mm->vmas())
      if (is_shared_anonymous(vma))
        sizes[vma.shmid()] = std::max(sizes[vma.shmid()], vma.pgoff() + (vma.end() - vma.start()));
  }
  SharedMemory shared;
  for (const auto& [shmid, image] : context.image.shmem) {
    for (const PageRun& run : image.pages) {
      sizes[shmid] = std::max(sizes[shmid], run.end);
      shared.pages_ += (run.end - run.start) / kPage;
    }
    Fd object = TRY_OR(make_object(sizes[shmid]), std::move(e).object(format("shared memory {}", shmid)));
    if (!image.pages.empty()) TRY(fill(object.get(), image, context));
    shared.objects_.emplace(shmid, std::move(object));
  }
  return shared;
}

}  // namespace dormouse::engine
