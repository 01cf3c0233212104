#include "engine/memory/shared_pages.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>

#include "base/format.h"
#include "base/pages.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

constexpr std::uint32_t kPresent = 4;  // pagemap_entry.flags
constexpr std::uint64_t kReadBytes = 1 << 20;

std::uint64_t round_up(std::uint64_t bytes, std::uint64_t unit) { return (bytes + unit - 1) / unit * unit; }

bool all_zero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

// hugetlbfs does not tell its holes (6.18: SEEK_HOLE finds the end). They read as zeros without being filled.
Result<std::vector<PageRun>> find_huge_data(const MemoryObject& object) {
  std::vector<PageRun> runs;
  std::vector<std::byte> buffer(std::min(object.page_bytes, kReadBytes));
  for (std::uint64_t page = 0; page < object.size_bytes; page += object.page_bytes) {
    bool zero = true;
    for (std::uint64_t at = page; zero && at < page + object.page_bytes; at += buffer.size()) {
      TRY(sys::pread_exactly(object.file.get(), buffer, at));
      zero = all_zero(buffer);
    }
    if (zero) continue;
    if (!runs.empty() && runs.back().end == page)
      runs.back().end += object.page_bytes;
    else
      runs.push_back({page, page + object.page_bytes, kPresent, true});
  }
  return runs;
}

// The last page of an object is all there for those who map it, but reading ends where the object does.
Result<> read_last_page(const MemoryObject& object, std::span<std::byte> to) {
  const auto window = TRY(sys::Mapping::map(object.file.get(), kPage, PROT_READ, MAP_SHARED, object.size_bytes / kPage * kPage));
  // Through the kernel: if the object is cut meanwhile, that is an error and not a signal.
  const Fd self = TRY(sys::openat(AT_FDCWD, "/proc/self/mem", O_RDONLY));
  return sys::pread_exactly(self.get(), to, reinterpret_cast<std::uintptr_t>(window.data()));
}

Result<> read_piece(const MemoryObject& object, const Piece& piece, std::span<std::byte> to) {
  const std::uint64_t whole = object.size_bytes / kPage * kPage;
  const std::uint64_t inside = piece.address < whole ? std::min(piece.bytes, whole - piece.address) : 0;
  TRY(sys::pread_exactly(object.file.get(), to.first(inside), piece.address));
  if (inside < piece.bytes) TRY(read_last_page(object, to.subspan(inside)));
  return {};
}

}  // namespace

namespace {
constexpr int kKindShift = 40;
}

std::uint64_t anonymous_shmid(std::uint64_t inode, bool huge) { return std::uint64_t{huge ? 2u : 1u} << kKindShift | inode; }

std::uint64_t inode_of_anonymous(std::uint64_t shmid) { return shmid & ((std::uint64_t{1} << kKindShift) - 1); }

std::uint32_t memfd_shmid(std::uint32_t inode_id) { return 0x8000'0000u | inode_id; }

Result<std::vector<PageRun>> find_data(const MemoryObject& object) {
  if (object.page_bytes != kPage) return find_huge_data(object);
  std::vector<PageRun> runs;
  for (std::uint64_t at = 0; at < object.size_bytes;) {
    const auto data = sys::lseek(object.file.get(), static_cast<std::int64_t>(at), SEEK_DATA);
    if (!data && data.error().is_kernel(ENXIO)) break;
    if (!data) return fail(data.error());
    const std::uint64_t hole = TRY(sys::lseek(object.file.get(), static_cast<std::int64_t>(*data), SEEK_HOLE));
    runs.push_back({*data, round_up(hole, kPage), kPresent, true});
    at = hole;
  }
  return runs;
}

Result<std::vector<std::uint64_t>> copy_object(const MemoryObject& object, const std::vector<PageRun>& runs,
                                               const images::PageFile& to) {
  std::vector<std::uint64_t> sums;
  std::vector<std::byte> buffer;
  for (const Chunk& chunk : cut_into_chunks(runs)) {
    buffer.resize(chunk.bytes);
    std::size_t filled = 0;
    for (const Piece& piece : chunk.pieces) {
      TRY_OR(read_piece(object, piece, std::span(buffer).subspan(filled, piece.bytes)),
             std::move(e).object(format("shared memory {}", object.shmid)));
      filled += piece.bytes;
    }
    TRY_OR(sys::pwrite_all(to.fd.get(), buffer, chunk.offset),
           std::move(e).object(to.name).remedy("is there enough room for the images?"));
    sums.push_back(XXH64(buffer.data(), filled, 0));
  }
  return sums;
}

}  // namespace dormouse::engine
