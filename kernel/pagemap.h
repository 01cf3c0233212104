// Which pages of a task are there, and of what kind.
//
// Two ways to the same answer: the PAGEMAP_SCAN request (Linux 6.7) and reading /proc/PID/pagemap. The
// second knows neither kPageIsWritten nor, for huge pages, kPageIsPfnzero (it calls a huge zero page
// present, which costs space but is right), and it needs CAP_SYS_ADMIN to see zero pages at all.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "kernel/abi.h"
#include "kernel/proc/directory.h"

namespace dormouse::sys {

// A page is wanted if it has all of `all_of` and one of `any_of`, where the categories in `inverted`
// count the other way round. All values are sets of abi::kPageIs*.
struct PageQuery {
  std::uint64_t all_of = 0;
  std::uint64_t any_of = 0;  // 0: no such condition
  std::uint64_t inverted = 0;
  std::uint64_t returned = abi::kPageIsPresent | abi::kPageIsSwapped | abi::kPageIsFile |
                           abi::kPageIsPfnzero;
  // Write-protects the pages that are found, in the same step (userfaultfd in asynchronous mode).
  bool write_protect = false;
};

// Pages that hold something: in memory or in swap.
inline constexpr PageQuery kPopulated{.any_of = abi::kPageIsPresent | abi::kPageIsSwapped};

class Pagemap {
 public:
  // `scan`: whether this kernel has PAGEMAP_SCAN (Feature::kPagemapScan).
  static Result<Pagemap> open(const proc::ProcDir& task, bool scan);

  // Ranges of [start, end), ascending; neighbours with equal categories are one range. Addresses are
  // multiples of the page size. May be called again for other ranges.
  Result<std::vector<abi::PageRegion>> ranges(std::uint64_t start, std::uint64_t end,
                                              const PageQuery& query = kPopulated);
  // As ranges(), added to `to`.
  [[nodiscard]] Result<> append_ranges(std::uint64_t start, std::uint64_t end, const PageQuery& query,
                                       std::vector<abi::PageRegion>& to);

 private:
  Pagemap(Fd fd, bool scan) : fd_(std::move(fd)), scan_(scan) {}
  Result<> scan_ranges(std::uint64_t start, std::uint64_t end, const PageQuery& query,
                       std::vector<abi::PageRegion>& to);
  Result<> read_ranges(std::uint64_t start, std::uint64_t end, const PageQuery& query,
                       std::vector<abi::PageRegion>& to);

  Fd fd_;
  bool scan_;
  std::vector<abi::PageRegion> regions_;      // room for one PAGEMAP_SCAN
  std::vector<std::uint64_t> entries_;        // room for one read
  std::optional<std::uint64_t> zero_frame_;   // frame number of the zero page; 0: cannot be seen
};

}  // namespace dormouse::sys
