// Ways of getting pages into a page file, with the same result. (Those that several processes have in common: common_pages.h.)
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "engine/memory/pages_dump.h"
#include "images/directory.h"

namespace dormouse::engine {

// Tells where writing failed.
Error on_page_write(Error error, const images::PageFile& to);

// The bytes of pages, one piece after the other. `memory`: /proc/PID/mem, which also reads what nobody else can. Not
// process_vm_readv(): it pins what it reads, and pinning a page that others have too gives the process one of its own
// (gup_must_unshare(), Linux 5.19).
[[nodiscard]] Result<> read_pieces(int memory, std::span<const Piece> pieces, std::span<std::byte> to);
[[nodiscard]] Result<> write_chunk(const Chunk& chunk, std::span<const std::byte> bytes, const images::PageFile& to);
// Both; the answer is the chunk's checksum. `buffer` grows as needed.
Result<std::uint64_t> copy_chunk(int memory, const Chunk& chunk, const images::PageFile& to, std::vector<std::byte>& buffer);

// `sums`: of the chunks that are in the file already, its beginning; those of the others are appended.
// The engine reads `source` (for example /proc/PID/mem), a chunk at a time.
[[nodiscard]] Result<> copy_by_engine(int source, std::span<const Chunk> chunks, const images::PageFile& to,
                                      std::vector<std::uint64_t>& sums);
// The held task writes its own pages, without a detour through the engine. Runs that it cannot read
// itself (PROT_NONE) are read by the engine from `memory`, its /proc/PID/mem.
[[nodiscard]] Result<> copy_by_task(parasite::Keeper& keeper, parasite::HeldProcess& held, const Task& task, int memory,
                                    std::span<const Chunk> chunks, const images::PageFile& to, std::vector<std::uint64_t>& sums);

struct CopiedPages {
  std::vector<PageRun> runs;  // those that could be had
  std::vector<std::uint64_t> sums;
};
// Of a process that runs and may change, unmap or leave its memory meanwhile: pages that are gone are left out. `memory`:
// its /proc/PID/mem, opened when it had that memory.
Result<CopiedPages> copy_behind(int memory, const std::vector<PageRun>& runs, const images::PageFile& to);

}  // namespace dormouse::engine
