// The user's programs that are run at the stages of a dump or restore (--action-script).
//
// A script finds the stage in CRTOOLS_SCRIPT_ACTION, the images in CRTOOLS_IMAGE_DIR and the root
// task's pid in CRTOOLS_INIT_PID (as soon as there is one). Its output goes to the log, it has no
// stdin and no other descriptor. All scripts are run; one that does not exit with 0 fails the
// stage.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "engine/options.h"
#include "shim/log_file.h"

namespace dormouse::shim {

class ActionScripts {
 public:
  // `images_dir` and `log` are the caller's and stay open; `root_pid` is 0 where it is not known
  // yet.
  ActionScripts(std::vector<std::string> scripts, int images_dir, pid_t root_pid, LogFile& log)
      : scripts_(std::move(scripts)), images_dir_(images_dir), root_pid_(root_pid), log_(log) {}

  [[nodiscard]] Result<> run(const engine::Notification& stage);

 private:
  std::vector<std::string> environment(const std::string& stage) const;

  std::vector<std::string> scripts_;
  int images_dir_;
  pid_t root_pid_;
  LogFile& log_;
};

}  // namespace dormouse::shim
