// /proc/PID/smaps piece by piece as it is read: of 10,000 mappings it has 7 MiB.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "kernel/proc/maps.h"

namespace dormouse::proc {

class SmapsParser {
 public:
  // `each`: is told of each mapping when all is known of it, in their order.
  explicit SmapsParser(std::function<void(const Vma&)> each = {}) : each_(std::move(each)) {}
  [[nodiscard]] Result<> add(std::string_view piece);  // ends anywhere
  Result<std::vector<Vma>> finish();

 private:
  [[nodiscard]] Result<> take(std::string_view line);
  void tell_of_last() const;

  std::function<void(const Vma&)> each_;
  std::vector<Vma> all_;
  std::string begun_;  // a line whose end is still to come
};

// While the kernel writes a long smaps, another thread parses what is there already. That does not take all its time.
struct WhileReading {
  std::function<void()> meanwhile;         // what it does first; of a short one it is done afterwards, by the caller's thread
  std::function<void(const Vma&)> each;    // of each mapping, in their order: by whoever parses
  std::function<bool()> idle;              // what it does while there is nothing to parse; false: nothing
};
// All of an open smaps.
Result<std::vector<Vma>> read_smaps(int file, const WhileReading& work = {});

}  // namespace dormouse::proc
