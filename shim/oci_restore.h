// `dormouse restore`: brings a container back from a checkpoint and a bundle, and keeps its state.
#pragma once

#include <string>

#include "base/error.h"
#include "shim/engine_api.h"
#include "shim/oci_options.h"

namespace dormouse::shim {

struct OciRestore : OciOptions {
  std::string bundle;
  std::string console_socket, pid_file;  // empty: none
  std::string lsm_profile, lsm_mount_context;
  bool detach = false;
};

// Detached: 0 once the container runs. Otherwise our signals are the container's, and the answer is
// its exit status (128 + N after signal N); its state is deleted then.
//
// A failure leaves nothing behind: no process, no cgroup, no mount, no state.
Result<int> restore_container(const EngineApi& engine, const OciRestore& request);

}  // namespace dormouse::shim
