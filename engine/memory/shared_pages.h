// Objects of memory that exist apart from those who map them: shared anonymous memory, memfds. Which of their
// pages there are, and the copying of these into a page file.
#pragma once

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "engine/memory/chunks.h"
#include "images/directory.h"

namespace dormouse::engine {

struct MemoryObject {
  std::uint64_t shmid = 0;       // number of its page map
  Fd file;                       // open for reading
  std::uint64_t size_bytes = 0;  // need not be whole pages
  std::uint64_t page_bytes = 4096;
};

// Numbers for page maps. Inode numbers repeat between the kernel's own file systems for small and for huge pages,
// and System V segments are numbered by their ids, which are below 2^31; so each kind has a range to itself.
std::uint64_t anonymous_shmid(std::uint64_t inode, bool huge);
std::uint64_t inode_of_anonymous(std::uint64_t shmid);
// `inode_id`: the number of its record, not the kernel's: the format has only 32 bits for this one.
std::uint32_t memfd_shmid(std::uint32_t inode_id);

// What is not a hole, in whole pages of 4 KiB; the last run may go beyond the object's end.
Result<std::vector<PageRun>> find_data(const MemoryObject& object);

// Returns the checksums of the chunks.
Result<std::vector<std::uint64_t>> copy_object(const MemoryObject& object, const std::vector<PageRun>& runs,
                                               const images::PageFile& to);

}  // namespace dormouse::engine
