// Processes that were gone at the checkpoint, and are needed for a moment: what they left behind, files of their
// /proc directories and pidfds, can only be opened while there is such a process.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "engine/files/owner.h"

namespace dormouse::engine {

class FormerProcess {
 public:
  // A child of the engine in the namespaces of the root task (a pidfd), under `number` as the tasks see it; 0: any.
  static Result<FormerProcess> create(pid_t number, int root_task);
  FormerProcess(FormerProcess&& other) noexcept;
  FormerProcess& operator=(FormerProcess&&) = delete;
  ~FormerProcess();  // it is gone again

  pid_t pid() const { return pid_; }  // as the engine sees it

 private:
  FormerProcess() = default;
  pid_t pid_ = 0;
  Fd lifeline_;  // it lives until this end is closed, by us or by our end
};

// Those whose files of /proc are among the open files of an image.
class FormerProcesses {
 public:
  // The file at `path`, with a directory named `pid` somewhere in it, is of a process that was gone.
  void note(const std::string& path, pid_t pid);
  // Brings that process to life if the file at `path` is of one, unless `lookup` knows a task with its number.
  [[nodiscard]] Result<> appear_for(const std::string& path, int root_task, const PidLookup& lookup);
  // All files are open.
  void vanish() { living_.clear(); }

 private:
  std::map<std::string, pid_t> directories_;
  std::map<pid_t, FormerProcess> living_;
};

}  // namespace dormouse::engine
