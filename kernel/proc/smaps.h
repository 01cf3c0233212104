// /proc/PID/smaps piece by piece as it is read: of 10,000 mappings it has 7 MiB.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "kernel/proc/maps.h"

namespace dormouse::proc {

class SmapsParser {
 public:
  [[nodiscard]] Result<> add(std::string_view piece);  // ends anywhere
  Result<std::vector<Vma>> finish();

 private:
  [[nodiscard]] Result<> take(std::string_view line);

  std::vector<Vma> all_;
  std::string begun_;  // a line whose end is still to come
};

// All of an open smaps. While the kernel writes a long one, another thread parses what is there already. That does not
// take all its time: what else is to be done `meanwhile` it does first. Of a short one it is done here, afterwards.
Result<std::vector<Vma>> read_smaps(int file, const std::function<void()>& meanwhile = {});

}  // namespace dormouse::proc
