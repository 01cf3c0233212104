#include "engine/mounts/gzip_writer.h"

#include <zlib.h>

#include <algorithm>
#include <array>

namespace dormouse::engine {

struct GzipWriter::State {
  Sink sink;
  z_stream stream{};
  bool ready = false;
  std::array<std::byte, 64 << 10> out;
};

GzipWriter::GzipWriter(Sink sink, int level) : state_(std::make_unique<State>()) {
  constexpr int kGzipFraming = 16;
  state_->sink = std::move(sink);
  state_->ready = ::deflateInit2(&state_->stream, level, Z_DEFLATED, MAX_WBITS + kGzipFraming, 8,
                                 Z_DEFAULT_STRATEGY) == Z_OK;
}
GzipWriter::GzipWriter(GzipWriter&&) noexcept = default;
GzipWriter::~GzipWriter() {
  if (state_ && state_->ready) ::deflateEnd(&state_->stream);
}

Result<> GzipWriter::compress(std::span<const std::byte> bytes, int flush) {
  z_stream& stream = state_->stream;
  // zlib counts in 32 bits.
  constexpr std::size_t kMost = 1u << 30;
  do {
    const auto part = bytes.first(std::min(bytes.size(), kMost));
    bytes = bytes.subspan(part.size());
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(part.data()));
    stream.avail_in = static_cast<uInt>(part.size());
    do {
      stream.next_out = reinterpret_cast<Bytef*>(state_->out.data());
      stream.avail_out = static_cast<uInt>(state_->out.size());
      ::deflate(&stream, bytes.empty() ? flush : Z_NO_FLUSH);
      const std::size_t produced = state_->out.size() - stream.avail_out;
      if (produced) TRY(state_->sink(std::span(state_->out).first(produced)));
    } while (stream.avail_out == 0);
  } while (!bytes.empty());
  return {};
}

Result<> GzipWriter::write(std::span<const std::byte> bytes) {
  if (!state_->ready) return fail(Error::kernel("deflateInit2", ENOMEM));
  return bytes.empty() ? Result<>{} : compress(bytes, Z_NO_FLUSH);
}

Result<> GzipWriter::finish() {
  if (!state_->ready) return fail(Error::kernel("deflateInit2", ENOMEM));
  return compress({}, Z_FINISH);
}

}  // namespace dormouse::engine
