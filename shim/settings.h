// Everything that a command line, configuration files and an RPC request can ask for, as one value.
//
// Sources are applied one after the other, the last one wins. What is asked for but cannot be done
// yet is remembered under the option's name, for a later source may take it back ("no-track-mem",
// track_mem=false): only what is left when the operation starts is refused.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/options.h"
#include "shim/log_file.h"

namespace dormouse::shim {

// What the program was called for; bits, since an option applies to several.
enum Command : unsigned {
  kDump = 1u << 0,
  kPreDump = 1u << 1,
  kRestore = 1u << 2,
  kCheck = 1u << 3,
  kPageServer = 1u << 4,
  kService = 1u << 5,
  kLazyPages = 1u << 6,
  kDedup = 1u << 7,
  kCpuinfo = 1u << 8,
  kExec = 1u << 9,
  kShow = 1u << 10,
  kSwrk = 1u << 11,
};
inline constexpr unsigned kEveryCommand = ~0u;

struct Settings {
  engine::CommonOptions common;
  engine::CheckpointOptions dump;  // its own members only: the common ones are in `common`
  engine::RestoreOptions restore;  // likewise

  std::string images_dir, work_dir;  // empty: not said
  std::string log_file;              // empty: not said; "-" is stdout
  bool log_to_stderr = false;
  int verbosity = kDefaultVerbosity;
  std::string pidfile;
  std::vector<std::string> action_scripts;
  bool display_stats = false;

  bool detach = false;
  bool exec_command = false;  // --exec-cmd: the command itself is in the operands
  std::vector<int> close_first;

  std::vector<std::string> features;  // check --feature
  bool check_extra = false, check_experimental = false;

  // Asked for, known, and not built: option name -> why, naming who asked.
  struct Missing {
    unsigned where;  // commands for which it matters
    Error error;
  };
  std::map<std::string, Missing, std::less<>> missing;
};

// What the engine gets. Descriptors, log and notifications are filled in by whoever runs it.
engine::CheckpointOptions checkpoint_options(const Settings& settings);
engine::RestoreOptions restore_options(const Settings& settings);

// Everything that is asked for and cannot be done, or contradicts itself, for this command.
std::vector<Error> refusals(const Settings& settings, Command command);

}  // namespace dormouse::shim
