// Pages of memory, and where user mode ends: x86-64 with four levels of page tables.
#pragma once

#include <cstdint>

namespace dormouse {

inline constexpr std::uint64_t kPage = 4096;
inline constexpr std::uint64_t kUserEnd = 0x7fff'ffff'f000;  // the first address behind (TASK_SIZE_MAX)

// Whole pages of user mode, at least one.
constexpr bool is_page_range(std::uint64_t start, std::uint64_t end) {
  return start % kPage == 0 && end % kPage == 0 && start < end && end <= kUserEnd;
}

}  // namespace dormouse
