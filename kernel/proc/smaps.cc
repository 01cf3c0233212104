#include "kernel/proc/smaps.h"

#include <array>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <span>

#include "base/parallel.h"
#include "kernel/file.h"

namespace dormouse::proc {
namespace {

// The kernel gives no more than a page at a time (fs/seq_file.c), unless one mapping takes more.
constexpr std::size_t kPieceBytes = 8192;
// So much takes longer than it takes to start a thread.
constexpr std::size_t kLong = 256 << 10;
constexpr std::size_t kHandedOver = 64 << 10;  // at a time

class Pieces {
 public:
  void put(std::string piece) {
    const std::scoped_lock lock(mutex_);
    waiting_ += piece;
    changed_.notify_one();
  }
  void end() {
    const std::scoped_lock lock(mutex_);
    ended_ = true;
    changed_.notify_one();
  }
  bool waiting() {
    const std::scoped_lock lock(mutex_);
    return ended_ || !waiting_.empty();
  }
  // Nothing after the end.
  std::optional<std::string> take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return ended_ || !waiting_.empty(); });
    if (waiting_.empty()) return std::nullopt;
    return std::exchange(waiting_, {});
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string waiting_;
  bool ended_ = false;
};

Result<std::string_view> read_piece(int file, std::span<char, kPieceBytes> buffer) {
  const std::size_t got = TRY(sys::read(file, std::as_writable_bytes(std::span(buffer))));
  return std::string_view(buffer.data(), got);
}

Result<> read_rest(int file, Pieces& pieces) {
  std::array<char, kPieceBytes> buffer;
  std::string text;
  for (;;) {
    const std::string_view piece = TRY(read_piece(file, buffer));
    text += piece;
    if (piece.empty() || text.size() >= kHandedOver) pieces.put(std::exchange(text, {}));
    if (piece.empty()) return {};
  }
}

Result<> parse_rest(SmapsParser& parser, Pieces& pieces, const std::function<bool()>& idle) {
  for (;;) {
    while (!pieces.waiting() && idle && idle()) continue;
    const auto text = pieces.take();
    if (!text) return {};
    TRY(parser.add(*text));
  }
}

}  // namespace

Result<std::vector<Vma>> read_smaps(int file, const WhileReading& work) {
  SmapsParser parser(work.each);
  std::array<char, kPieceBytes> buffer;
  for (std::size_t bytes = 0; bytes < kLong;) {
    const std::string_view piece = TRY(read_piece(file, buffer));
    if (piece.empty()) {
      if (work.meanwhile) work.meanwhile();
      return parser.finish();
    }
    TRY(parser.add(piece));
    bytes += piece.size();
  }
  Pieces pieces;
  // Where no thread can be had the first is done before the second.
  TRY(in_parallel(2, [&](std::size_t which) -> Result<> {
    if (which == 1) {
      if (work.meanwhile) work.meanwhile();
      return parse_rest(parser, pieces, work.idle);
    }
    Result<> done = read_rest(file, pieces);
    pieces.end();
    return done;
  }, 1));
  return parser.finish();
}

}  // namespace dormouse::proc
