#include "engine/memory/page_copy.h"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <xxhash.h>

#include <climits>

#include "base/format.h"
#include "kernel/file.h"
#include "parasite/host/lend.h"

namespace dormouse::engine {
namespace {

Error on_write(Error error, const images::PageFile& to) {
  return std::move(error).object(to.name).remedy("is there enough room for the images?");
}

Result<std::uint64_t> copy_chunk(int source, const Chunk& chunk, const images::PageFile& to,
                                 std::vector<std::byte>& buffer) {
  std::size_t filled = 0;
  for (const Piece& piece : chunk.pieces) {
    TRY_OR(sys::pread_exactly(source, {buffer.data() + filled, piece.bytes}, piece.address),
           std::move(e).object(format("memory at {:#x}", piece.address)));
    filled += piece.bytes;
  }
  TRY_OR(sys::pwrite_all(to.fd.get(), {buffer.data(), filled}, chunk.offset), on_write(std::move(e), to));
  return XXH64(buffer.data(), filled, 0);
}

}  // namespace

Result<std::vector<std::uint64_t>> copy_by_engine(int source, const std::vector<PageRun>& runs,
                                                  const images::PageFile& to) {
  std::vector<std::uint64_t> sums;
  std::vector<std::byte> buffer;
  for (const Chunk& chunk : cut_into_chunks(runs)) {
    if (buffer.size() < chunk.bytes) buffer.resize(chunk.bytes);
    sums.push_back(TRY(copy_chunk(source, chunk, to, buffer)));
  }
  return sums;
}

Result<std::vector<std::uint64_t>> copy_by_task(parasite::Keeper& keeper, parasite::HeldProcess& held,
                                                const Task& task, int memory,
                                                const std::vector<PageRun>& runs,
                                                const images::PageFile& to) {
  auto lent = TRY(parasite::LentDescriptor::lend(keeper, held, task.pidfd.get(), to.fd.get()));
  const std::vector<Chunk> chunks = cut_into_chunks(runs);
  std::vector<std::uint64_t> sums(chunks.size());
  std::vector<std::byte> buffer;
  // As many chunks per program as the area has room for.
  for (std::size_t next = 0; next < chunks.size();) {
    parasite::Program program;
    std::vector<std::pair<std::size_t, parasite::OpRef>> hashes;
    const std::size_t room = held.area().program_room() / 2;
    for (; next < chunks.size() && program.size_bytes() < room; ++next) {
      const Chunk& chunk = chunks[next];
      if (!chunk.readable || chunk.pieces.size() > IOV_MAX) {
        if (buffer.size() < chunk.bytes) buffer.resize(chunk.bytes);
        sums[next] = TRY(copy_chunk(memory, chunk, to, buffer));
        continue;
      }
      static_assert(sizeof(Piece) == sizeof(iovec));
      const auto pieces = program.data(std::as_bytes(std::span(chunk.pieces)));
      program.call("write pages", SYS_pwritev, {lent.number(), pieces, chunk.pieces.size(), chunk.offset},
                   parasite::exactly(static_cast<std::int64_t>(chunk.bytes)));
      hashes.emplace_back(next, program.perform(parasite::OpCode::kHash, "checksum pages",
                                                {pieces, chunk.pieces.size()}, parasite::anything()));
    }
    if (program.empty()) continue;
    parasite::Batch batch(keeper);
    const std::size_t job = TRY(batch.add(held, held.leader(), program));
    TRY_OR(batch.run(std::chrono::minutes(10)), on_write(std::move(e), to));
    for (const auto& [chunk, hash] : hashes)
      sums[chunk] = static_cast<std::uint64_t>(batch.placed(job).result(hash));
    held.area().rewind();
  }
  TRY(lent.take_back());
  return sums;
}

}  // namespace dormouse::engine
