// The mounts of one mount namespace, looked up by id and by path.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "kernel/proc/mountinfo.h"

namespace dormouse::engine {

class MountTable {
 public:
  // From /proc/PID/mountinfo of a task in that namespace.
  static Result<MountTable> of(const std::string& mountinfo_text);

  const std::vector<proc::Mount>& all() const { return mounts_; }
  // Null if there is no such mount.
  const proc::Mount* by_id(int id) const;
  // The topmost mount that holds `path`.
  const proc::Mount* by_path(std::string_view path) const;

 private:
  std::vector<proc::Mount> mounts_;
};

}  // namespace dormouse::engine
