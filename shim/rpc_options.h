// From an RPC request's options to settings.
//
// Order, the last one wins: default configuration files (already in `base`), the request's fields
// that are present (a present false too), the configuration file that the request names.
#pragma once

#include <sys/types.h>

#include <vector>

#include "images/schema/rpc.pb.h"
#include "shim/settings.h"

namespace dormouse::shim {

struct RpcSetup {
  Settings settings;
  std::vector<std::string> exec_command;  // to become after a restore
  std::vector<Error> errors;              // everything that is wrong with the request
};

// `client`: the process whose descriptor numbers the request holds. Touches nothing but the
// configuration file and the descriptors to be inherited; to be called before anything is opened.
RpcSetup settings_from_request(const Settings& base, const pb::criu_opts& request, pid_t client,
                               const std::vector<int>& unknown_fields);

}  // namespace dormouse::shim
