#include "engine/memory/page_copy.h"

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <optional>

#include "base/defer.h"
#include "base/format.h"
#include "base/pages.h"
#include "base/parallel.h"
#include "engine/memory/tmpfs_pages.h"
#include "kernel/file.h"
#include "kernel/process.h"
#include "parasite/host/helper_thread.h"
#include "parasite/host/lend.h"

namespace dormouse::engine {

Error on_page_write(Error error, const images::PageFile& to) {
  return std::move(error).object(to.name).remedy("is there enough room for the images?");
}

Result<> read_pieces(int memory, std::span<const Piece> pieces, std::span<std::byte> to) {
  for (const Piece& piece : pieces) {
    TRY_OR(sys::pread_exactly(memory, to.first(piece.bytes), piece.address),
           std::move(e).object(format("memory at {:#x}", piece.address)));
    to = to.subspan(piece.bytes);
  }
  return {};
}

Result<> write_chunk(const Chunk& chunk, std::span<const std::byte> bytes, const images::PageFile& to) {
  TRY_OR(sys::pwrite_all(to.fd.get(), bytes, chunk.offset), on_page_write(std::move(e), to));
  return {};
}

Result<std::uint64_t> copy_chunk(int memory, const Chunk& chunk, const images::PageFile& to, std::vector<std::byte>& buffer) {
  if (buffer.size() < chunk.bytes) buffer.resize(chunk.bytes);
  const auto bytes = std::span(buffer).first(chunk.bytes);
  TRY(read_pieces(memory, chunk.pieces, bytes));
  TRY(write_chunk(chunk, bytes, to));
  return XXH64(bytes.data(), bytes.size(), 0);
}

Result<> copy_by_engine(int source, std::span<const Chunk> chunks, const images::PageFile& to, std::vector<std::uint64_t>& sums) {
  std::vector<std::byte> buffer;
  for (const Chunk& chunk : chunks.subspan(sums.size())) sums.push_back(TRY(copy_chunk(source, chunk, to, buffer)));
  return {};
}

namespace {

// Fills the page file a chunk at a time.
class Behind {
 public:
  Behind(int memory, const images::PageFile& to) : memory_(memory), to_(to), buffer_(images::kPageChunkBytes) {}

  Result<> copy(const PageRun& run) {
    for (std::uint64_t at = run.start; at < run.end && !gone_;) {
      const std::uint64_t room = std::min<std::uint64_t>(run.end - at, buffer_.size() - filled_);
      const std::uint64_t got = read(at, room);
      if (got != 0) append(run, at, got);
      at += got < room ? got + kPage : got;  // a page that is not there any more is left out
      if (filled_ == buffer_.size()) TRY(flush());
    }
    return {};
  }
  Result<CopiedPages> finish() {
    if (filled_ != 0) TRY(flush());
    return std::move(copied_);
  }

 private:
  std::span<std::byte> free() { return std::span(buffer_).subspan(filled_); }
  // Not by process_vm_readv(): see read_pieces().
  std::uint64_t read(std::uint64_t at, std::uint64_t bytes) {
    const auto got = sys::pread(memory_, free().first(bytes), at);
    gone_ = got && *got == 0;  // the address space, with all who used it; a single page is EIO
    return got ? *got / kPage * kPage : 0;
  }
  void append(const PageRun& run, std::uint64_t at, std::uint64_t bytes) {
    auto& runs = copied_.runs;
    if (!runs.empty() && runs.back().end == at && runs.back().flags == run.flags) runs.back().end = at + bytes;
    else runs.push_back({at, at + bytes, run.flags, run.readable});
    filled_ += bytes;
  }
  Result<> flush() {
    const std::span<const std::byte> bytes(buffer_.data(), filled_);
    TRY_OR(sys::pwrite_all(to_.fd.get(), bytes, written_), on_page_write(std::move(e), to_));
    copied_.sums.push_back(XXH64(bytes.data(), bytes.size(), 0));
    written_ += filled_;
    filled_ = 0;
    return {};
  }

  int memory_;
  const images::PageFile& to_;
  std::vector<std::byte> buffer_;
  std::size_t filled_ = 0;
  std::uint64_t written_ = 0;
  bool gone_ = false;
  CopiedPages copied_;
};

}  // namespace

Result<CopiedPages> copy_behind(int memory, const std::vector<PageRun>& runs, const images::PageFile& to) {
  Behind behind(memory, to);
  for (const PageRun& run : runs) TRY(behind.copy(run));
  return behind.finish();
}

namespace {

// How a task puts its pages into the page file: its descriptor is lent to the task.
class Destination {
 public:
  Destination(const images::PageFile& file, std::uint64_t bytes) : file_(file), mapped_(TmpfsPages::open(file.fd.get(), bytes)) {}

  int descriptor() const { return mapped_ ? mapped_->userfaultfd() : file_.fd.get(); }
  // `number`: the descriptor, in the task.
  void put(parasite::Program& program, const Chunk& chunk, parasite::DataRef pieces, int number) const {
    if (!mapped_) {
      program.call("write pages", SYS_pwritev, {number, pieces, chunk.pieces.size(), chunk.offset},
                   parasite::exactly(static_cast<std::int64_t>(chunk.bytes)));
      return;
    }
    std::uint64_t at = mapped_->address_of(chunk.offset);
    for (const Piece& piece : chunk.pieces) {
      const ::uffdio_copy copy{.dst = at, .src = piece.address, .len = piece.bytes, .mode = 0, .copy = 0};
      program.call("copy pages", SYS_ioctl, {number, UFFDIO_COPY, program.value(copy)}, parasite::exactly(0));
      at += piece.bytes;
    }
  }
  // Memory of ours that is filled in one round: some megabytes, so as to stay small.
  std::uint64_t round_bytes() const { return mapped_ ? 16 << 20 : UINT64_MAX; }
  void has_all_before(std::uint64_t end) {
    if (mapped_) mapped_->let_go_before(end);
  }

 private:
  const images::PageFile& file_;
  std::optional<TmpfsPages> mapped_;
};

// The writing of some chunks, as a program of one thread.
struct Job {
  parasite::Program program;
  std::vector<std::pair<std::size_t, parasite::OpRef>> hashes;  // chunk, operation

  void add(std::size_t index, const Chunk& chunk, const Destination& to, int number) {
    static_assert(sizeof(Piece) == sizeof(iovec));
    const auto pieces = program.data(std::as_bytes(std::span(chunk.pieces)));
    // The checksum brings the bytes into the cache, which is no time lost while another thread has the file's lock.
    hashes.emplace_back(index, program.perform(parasite::OpCode::kHash, "checksum pages",
                                               {pieces, chunk.pieces.size()}, parasite::anything()));
    to.put(program, chunk, pieces, number);
  }
};

constexpr std::size_t kWorthAHelper = (16 << 20) / images::kPageChunkBytes;  // chunks

// Chunk after chunk, as many in one round as the area has room for.
class ByTask {
 public:
  ByTask(parasite::Keeper& keeper, parasite::HeldProcess& held, int memory, std::span<const Chunk> chunks,
         const images::PageFile& to, std::vector<std::uint64_t>& sums)
      : keeper_(keeper), held_(held), memory_(memory), chunks_(chunks), to_(to), destination_(to, end_of(chunks.size())),
        sums_(sums), next_(sums.size()) {
    sums_.resize(chunks.size());
  }

  Result<> copy(const Task& task) {
    std::vector<std::size_t> engines;
    for (std::size_t i = next_; i < chunks_.size(); ++i)
      if (is_engines(chunks_[i])) engines.push_back(i);
    TRY(by_engine(engines));
    const std::size_t left = chunks_.size() - next_ - engines.size();
    if (left == 0) return {};
    auto lent = parasite::LentDescriptor::lend(keeper_, held_, task.pidfd.get(), destination_.descriptor());
    if (!lent && lent.error().is_kernel(EMFILE)) return copy_without();
    if (!lent) return fail(std::move(lent).error());
    // Whatever fails: the helper is gone before the descriptor is.
    const Defer dismissed([&] { helper_.reset(); });
    if (left >= kWorthAHelper && held_.can_be_helped()) {
      // Without one (a limit on processes, say) the leader does all the work.
      auto started = parasite::HelperThread::start(
          keeper_, {held_.area(), held_.spare_slot(), 0, held_.leader().tid(), held_.name(), &held_});
      if (started) helper_.emplace(std::move(*started));
    }
    while (next_ < chunks_.size()) TRY(round(lent->number()));
    if (helper_) TRY(helper_->dismiss());
    return lent->take_back();
  }

 private:
  // What the task cannot read itself, or not in one call.
  static bool is_engines(const Chunk& chunk) { return !chunk.readable || chunk.pieces.size() > IOV_MAX; }

  // Its table of descriptors is full (RLIMIT_NOFILE).
  Result<> copy_without() {
    std::vector<std::size_t> rest;
    for (std::size_t i = next_; i < chunks_.size(); ++i)
      if (!is_engines(chunks_[i])) rest.push_back(i);
    return by_engine(rest);
  }

  std::uint64_t end_of(std::size_t count) const { return count == 0 ? 0 : chunks_[count - 1].offset + chunks_[count - 1].bytes; }

  Result<> by_engine(std::span<const std::size_t> indices) {
    constexpr std::size_t kAtOnce = 8;  // by one thread, so that its buffer is worth having
    return in_parallel((indices.size() + kAtOnce - 1) / kAtOnce, [&](std::size_t job) -> Result<> {
      std::vector<std::byte> buffer(images::kPageChunkBytes);
      for (const std::size_t i : indices.subspan(job * kAtOnce, std::min(kAtOnce, indices.size() - job * kAtOnce)))
        sums_[i] = TRY(copy_chunk(memory_, chunks_[i], to_, buffer));
      return {};
    }, 1);
  }

  Result<> share_out(std::array<Job, 2>& jobs, int number) {
    const std::size_t room = held_.area().program_room() / 4;
    const std::uint64_t begin = chunks_[next_].offset;
    for (; next_ < chunks_.size() && jobs[0].program.size_bytes() < room && jobs[1].program.size_bytes() < room; ++next_) {
      const Chunk& chunk = chunks_[next_];
      if (chunk.offset - begin >= destination_.round_bytes()) break;
      if (!is_engines(chunk)) jobs[helper_ ? next_ % 2 : 0].add(next_, chunk, destination_, number);
    }
    return {};
  }

  Result<> round(int number) {
    std::array<Job, 2> jobs;
    TRY(share_out(jobs, number));
    parasite::Batch batch(keeper_);
    std::vector<std::pair<std::size_t, const Job*>> placed;
    if (!jobs[0].program.empty()) placed.emplace_back(TRY(batch.add(held_, held_.leader(), jobs[0].program)), &jobs[0]);
    if (!jobs[1].program.empty()) placed.emplace_back(TRY(helper_->add_to(batch, jobs[1].program)), &jobs[1]);
    const Result<> ran = batch.run(std::chrono::minutes(10));
    if (!ran && ran.error().kind() == Error::Kind::kTaskDied) return ran;
    // A task that could not do it all (a full disk, memory that vanished) leaves it to the engine to find out why, or
    // to do better.
    for (const auto& [index, job] : placed)
      for (const auto& [chunk, hash] : job->hashes) {
        if (ran) sums_[chunk] = static_cast<std::uint64_t>(batch.placed(index).result(hash));
        else TRY(by_engine({&chunk, 1}));
      }
    destination_.has_all_before(end_of(next_));
    held_.area().rewind();
    return {};
  }

  parasite::Keeper& keeper_;
  parasite::HeldProcess& held_;
  int memory_;
  std::span<const Chunk> chunks_;
  const images::PageFile& to_;
  Destination destination_;
  std::vector<std::uint64_t>& sums_;
  std::optional<parasite::HelperThread> helper_;
  std::size_t next_;
};

}  // namespace

Result<> copy_by_task(parasite::Keeper& keeper, parasite::HeldProcess& held, const Task& task, int memory,
                      std::span<const Chunk> chunks, const images::PageFile& to, std::vector<std::uint64_t>& sums) {
  return ByTask(keeper, held, memory, chunks, to, sums).copy(task);
}

}  // namespace dormouse::engine
