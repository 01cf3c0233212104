// What kind of mapping a VMA is, and how the image says so.
#pragma once

#include <cstdint>

#include "base/error.h"
#include "engine/memory/memory_mounts.h"
#include "images/schema/memory.pb.h"
#include "kernel/proc/maps.h"

namespace dormouse::engine {

// vma_entry.status: a set of these (numbers of the reference format).
namespace vma_status {
inline constexpr std::uint32_t kRegular = 1 << 0;
inline constexpr std::uint32_t kVsyscall = 1 << 2;
inline constexpr std::uint32_t kVdso = 1 << 3;
inline constexpr std::uint32_t kHeap = 1 << 5;
inline constexpr std::uint32_t kFilePrivate = 1 << 6;
inline constexpr std::uint32_t kFileShared = 1 << 7;
inline constexpr std::uint32_t kAnonShared = 1 << 8;
inline constexpr std::uint32_t kAnonPrivate = 1 << 9;
inline constexpr std::uint32_t kSysvIpc = 1 << 10;
inline constexpr std::uint32_t kSocket = 1 << 11;
inline constexpr std::uint32_t kVvar = 1 << 12;
inline constexpr std::uint32_t kAioRing = 1 << 13;
inline constexpr std::uint32_t kMemfd = 1 << 14;
inline constexpr std::uint32_t kShadowStack = 1 << 15;
inline constexpr std::uint32_t kGuard = 1 << 16;
inline constexpr std::uint32_t kUprobes = 1 << 17;
}  // namespace vma_status

// The image record of one VMA of smaps, but for what refers to other records (shmid of files).
// An error names the kind that cannot be saved and what to do.
Result<pb::vma_entry> describe_vma(const proc::Vma& vma, const MemoryMounts& memory);

// A run of pages that give SIGSEGV (MADV_GUARD_INSTALL, Linux 6.13). No mapping of its own for the kernel, but a
// record for the format, behind those of the mappings.
pb::vma_entry describe_guard(std::uint64_t start, std::uint64_t end);

// Private memory of the task itself: its pages are saved in pages-N.img.
bool has_private_pages(const pb::vma_entry& vma);
// Of the memory behind it: 4096, or what MAP_HUGETLB and the bits beside it say.
std::uint64_t page_bytes_of(std::uint32_t mmap_flags);
// Where the kernel runs what uprobes displaced (Documentation/trace/uprobetracer.rst). It makes another one when it needs it.
inline bool is_uprobes(const proc::Vma& vma) { return vma.name == "[uprobes]"; }
inline bool is_guard(const pb::vma_entry& vma) { return vma.status() & vma_status::kGuard; }
inline bool is_memfd_mapping(const pb::vma_entry& vma) { return vma.status() & vma_status::kMemfd; }
inline bool is_file_mapping(const pb::vma_entry& vma) {
  return vma.status() & (vma_status::kFilePrivate | vma_status::kFileShared);
}
// An attachment of System V shared memory; `shmid` is its id.
inline bool is_segment(const pb::vma_entry& vma) { return vma.status() & vma_status::kSysvIpc; }
inline bool is_aio_ring(const pb::vma_entry& vma) { return vma.status() & vma_status::kAioRing; }
inline bool is_shared_anonymous(const pb::vma_entry& vma) {
  return (vma.status() & vma_status::kAnonShared) && !is_segment(vma);
}

}  // namespace dormouse::engine
