// Starting somebody else's program: a hook, a script.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/error.h"

namespace dormouse::shim {

struct Program {
  std::string path;                      // absolute
  std::vector<std::string> arguments;    // with the first, the program's own name
  std::vector<std::string> environment;
  std::string directory;                 // where it runs; empty: ours
  int input = -1;                        // its stdin; -1: /dev/null
  int output = -1;                       // its stdout and stderr; -1: ours
};

// The new process is the caller's to wait for. It gets no other descriptors, no blocked signals, and
// no ignored SIGPIPE.
Result<pid_t> spawn(const Program& program);

}  // namespace dormouse::shim
