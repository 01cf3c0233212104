#include "images/checksum.h"

#define XXH_STATIC_LINKING_ONLY  // the size of XXH64_state_t
#include <xxhash.h>

#include <new>

#include "base/format.h"

namespace dormouse::images {

std::uint64_t checksum(std::span<const std::byte> bytes) {
  return XXH64(bytes.data(), bytes.size(), 0);
}
std::uint64_t checksum(std::string_view text) { return XXH64(text.data(), text.size(), 0); }
std::string checksum_text(std::uint64_t checksum) { return format("{:016x}", checksum); }

static XXH64_state_t* state(std::byte* bytes) {
  return std::launder(reinterpret_cast<XXH64_state_t*>(bytes));
}

RunningChecksum::RunningChecksum() {
  static_assert(sizeof(XXH64_state_t) == sizeof state_ && alignof(XXH64_state_t) <= 8);
  XXH64_reset(new (state_) XXH64_state_t, 0);
}
void RunningChecksum::add(std::span<const std::byte> bytes) {
  XXH64_update(state(state_), bytes.data(), bytes.size());
}
std::uint64_t RunningChecksum::value() const {
  return XXH64_digest(state(const_cast<std::byte*>(state_)));
}

}  // namespace dormouse::images
