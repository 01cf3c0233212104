// XXH64 with seed 0: the checksum of the manifest. It finds damage, it does not resist forgery.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace dormouse::images {

std::uint64_t checksum(std::span<const std::byte> bytes);
std::uint64_t checksum(std::string_view text);
// 16 lower-case hexadecimal digits, the form that stands in the manifest.
std::string checksum_text(std::uint64_t checksum);

// The same over bytes that come in pieces.
class RunningChecksum {
 public:
  RunningChecksum();
  void add(std::span<const std::byte> bytes);
  std::uint64_t value() const;

 private:
  alignas(8) std::byte state_[88];  // an XXH64_state_t
};

}  // namespace dormouse::images
