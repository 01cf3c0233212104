// Compressing a stream as gzip does.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>

#include "base/error.h"

namespace dormouse::engine {

class GzipWriter {
 public:
  using Sink = std::function<Result<>(std::span<const std::byte>)>;
  // `level`: 1, fast, to 9, small.
  GzipWriter(Sink sink, int level);
  GzipWriter(GzipWriter&&) noexcept;
  ~GzipWriter();

  [[nodiscard]] Result<> write(std::span<const std::byte> bytes);
  [[nodiscard]] Result<> finish();

 private:
  struct State;
  [[nodiscard]] Result<> compress(std::span<const std::byte> bytes, int flush);
  std::unique_ptr<State> state_;
};

}  // namespace dormouse::engine
