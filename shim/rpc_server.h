// One connection of the service protocol: `criu swrk FD` serves the client that started it.
#pragma once

#include "shim/engine_api.h"
#include "shim/settings.h"

namespace dormouse::shim {

// Exit codes that clients know.
inline constexpr int kExitSuccess = 0;
inline constexpr int kExitFailure = 1;     // a dump or restore that failed
inline constexpr int kExitProtocol = 255;  // no request, an unreadable one, or one out of place

// Serves requests on `socket` (the caller's) until the conversation is over and returns the exit
// code. `base`: the settings of the default configuration files. Writes nothing to stdout or
// stderr. After a restore with exec_cmd it does not return: the process becomes that command.
int serve_rpc(int socket, const Settings& base, const EngineApi& engine);

// Becomes `words`, found in PATH; returns only if that fails. Undoes what we did to signals.
Error become(const std::vector<std::string>& words);

}  // namespace dormouse::shim
