// Ids of users and groups, as the engine sees them and as a task's user namespace does.
#pragma once

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "kernel/proc/small.h"

namespace dormouse::engine {

class IdMap {
 public:
  IdMap() = default;  // every id is itself
  explicit IdMap(std::vector<proc::IdRange> ranges) : ranges_(std::move(ranges)) {}
  // An id that the other side does not know stays what it is.
  std::uint32_t inside(std::uint32_t id) const;
  std::uint32_t outside(std::uint32_t id) const;

 private:
  std::vector<proc::IdRange> ranges_;
};

struct UserMaps {
  IdMap uids, gids;
  // `proc`: directory /proc/PID.
  static Result<UserMaps> of(int proc);
};

}  // namespace dormouse::engine
