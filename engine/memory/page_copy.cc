#include "engine/memory/page_copy.h"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "base/defer.h"
#include "base/format.h"
#include "kernel/file.h"
#include "kernel/process.h"
#include "parasite/host/lend.h"

namespace dormouse::engine {
namespace {

constexpr std::size_t kChunk = images::kPageChunkBytes;

Error on_write(Error error, const images::PageFile& to) {
  return std::move(error).object(to.name).remedy("is there enough room for the images?");
}

// What goes into one chunk of the page file.
struct Chunk {
  std::uint64_t offset = 0;  // in the page file
  std::size_t bytes = 0;
  bool by_task = true;
  std::vector<iovec> pieces;  // addresses in the task
};

std::vector<Chunk> cut(const std::vector<PageRun>& runs) {
  std::vector<Chunk> chunks;
  std::uint64_t offset = 0;
  for (const PageRun& run : runs) {
    for (std::uint64_t at = run.start; at < run.end;) {
      if (offset % kChunk == 0 && (chunks.empty() || chunks.back().bytes > 0))
        chunks.push_back({offset, 0, true, {}});
      Chunk& chunk = chunks.back();
      const std::size_t bytes = std::min<std::uint64_t>(run.end - at, kChunk - chunk.bytes);
      chunk.pieces.push_back({reinterpret_cast<void*>(at), bytes});
      chunk.bytes += bytes;
      chunk.by_task = chunk.by_task && run.readable;
      at += bytes;
      offset += bytes;
    }
  }
  return chunks;
}

Result<std::uint64_t> copy_chunk(int source, const Chunk& chunk, const images::PageFile& to,
                                 std::vector<std::byte>& buffer) {
  std::size_t filled = 0;
  for (const iovec& piece : chunk.pieces) {
    TRY_OR(sys::pread_exactly(source, {buffer.data() + filled, piece.iov_len},
                              reinterpret_cast<std::uint64_t>(piece.iov_base)),
           std::move(e).object(format("memory at {:#x}", reinterpret_cast<std::uint64_t>(piece.iov_base))));
    filled += piece.iov_len;
  }
  TRY_OR(sys::pwrite_all(to.fd.get(), {buffer.data(), filled}, chunk.offset), on_write(std::move(e), to));
  return XXH64(buffer.data(), filled, 0);
}

}  // namespace

Result<std::vector<std::uint64_t>> copy_by_engine(int source, const std::vector<PageRun>& runs,
                                                  const images::PageFile& to) {
  std::vector<std::uint64_t> sums;
  std::vector<std::byte> buffer;
  for (const Chunk& chunk : cut(runs)) {
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
  const std::vector<Chunk> chunks = cut(runs);
  std::vector<std::uint64_t> sums(chunks.size());
  std::vector<std::byte> buffer;
  // As many chunks per program as the area has room for.
  for (std::size_t next = 0; next < chunks.size();) {
    parasite::Program program;
    std::vector<std::pair<std::size_t, parasite::OpRef>> hashes;
    const std::size_t room = held.area().program_room() / 2;
    for (; next < chunks.size() && program.size_bytes() < room; ++next) {
      const Chunk& chunk = chunks[next];
      if (!chunk.by_task || chunk.pieces.size() > IOV_MAX) {
        if (buffer.size() < chunk.bytes) buffer.resize(chunk.bytes);
        sums[next] = TRY(copy_chunk(memory, chunk, to, buffer));
        continue;
      }
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
