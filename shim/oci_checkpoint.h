// `dormouse checkpoint`: saves a container that runc (or Dormouse) runs, without going through the
// runtime. The runtime's state is read, never written: if the tasks are not left running, runc sees a
// stopped container, which `runc delete` removes. One of our own is deleted at once.
#pragma once

#include "base/error.h"
#include "shim/engine_api.h"
#include "shim/oci_options.h"

namespace dormouse::shim {

struct OciCheckpoint : OciOptions {
  bool leave_running = false;
};

[[nodiscard]] Result<> checkpoint_container(const EngineApi& engine, const OciCheckpoint& request);

}  // namespace dormouse::shim
