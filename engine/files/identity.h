// Which descriptors, of whatever tasks, share one open file: the same position, flags and owner.
//
// Only kcmp(2) knows. It is asked among candidates that look alike, and its answers order them, so that
// n descriptors cost n log n questions even if all of them are /dev/null at position 0.
#pragma once

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "base/error.h"

namespace dormouse::engine {

struct OpenFile;

class OpenFileSet {
 public:
  // A descriptor that stands for its open file: as the engine sees the pid.
  struct Place {
    pid_t pid = 0;
    int number = -1;
  };
  // As kcmp(KCMP_FILE): 0 the same, 1 less, 2 greater.
  using Compare = std::function<Result<int>(Place, Place)>;

  OpenFileSet();
  explicit OpenFileSet(Compare compare) : compare_(std::move(compare)) {}

  struct Known {
    Place place;
    std::uint32_t id = 0;
    int type = 0;         // fd_types; 0 as long as the file is not saved
  };
  struct Answer {
    Known* known = nullptr;  // valid until the next find_or_add()
    bool is_new = false;
  };
  // A new file gets `next_id`, which is then counted up. The tasks must be stopped.
  Result<Answer> find_or_add(const OpenFile& file, std::uint32_t& next_id);

 private:
  // What two descriptors of one open file surely have in common.
  struct Looks {
    std::uint64_t device, inode, pos;
    std::uint32_t flags;
    int mount_id;
    friend auto operator<=>(const Looks&, const Looks&) = default;
  };
  Compare compare_;
  std::map<Looks, std::vector<Known>> known_;  // each vector in kcmp's order
};

}  // namespace dormouse::engine
