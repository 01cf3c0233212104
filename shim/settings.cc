#include "shim/settings.h"

#include <sched.h>

namespace dormouse::shim {

engine::CheckpointOptions checkpoint_options(const Settings& settings) {
  engine::CheckpointOptions options = settings.dump;
  static_cast<engine::CommonOptions&>(options) = settings.common;
  return options;
}

engine::RestoreOptions restore_options(const Settings& settings) {
  engine::RestoreOptions options = settings.restore;
  static_cast<engine::CommonOptions&>(options) = settings.common;
  return options;
}

std::vector<Error> refusals(const Settings& settings, Command command) {
  std::vector<Error> all;
  for (const auto& [name, missing] : settings.missing)
    if (missing.where & command) all.push_back(missing.error);
  if (command == kRestore && (settings.common.empty_namespaces & CLONE_NEWNET))
    for (const auto& join : settings.restore.join_namespaces)
      if (join.kind == "net")
        all.push_back(Error::bad_option("the network namespace cannot be both joined and empty")
                          .object("options join-ns and empty-ns"));
  return all;
}

}  // namespace dormouse::shim
