// Who a thread is: ids, groups, capabilities, securebits, no_new_privs, security label.
#pragma once

#include <cstdint>
#include <string>

#include "base/error.h"
#include "engine/task/security_label.h"
#include "kernel/proc/status.h"
#include "parasite/host/area.h"
#include "parasite/host/program.h"

namespace dormouse::pb {
class creds_entry;
}

namespace dormouse::engine {

// --- saving -------------------------------------------------------------------------------------
// Ids are asked of the thread, since only there they are those of its own user namespace.
struct CredentialsAsked {
  parasite::DataRef uids, gids;  // real, effective, saved
  parasite::OpRef fsuid, fsgid, securebits;
  parasite::DataRef groups;
  std::size_t group_count = 0;
};
CredentialsAsked ask_credentials(parasite::Program& program, std::size_t group_count);
// `label`: what /proc/PID/attr/current says, empty without a security module or if unconfined.
void save_credentials(const parasite::Placed& placed, const CredentialsAsked& asked, const proc::Status& status,
                      const std::string& label, pb::creds_entry& to);

// --- restoring ----------------------------------------------------------------------------------
// The last privileged thing a thread does. `label`: as label_to_restore() tells it.
[[nodiscard]] Result<> append_credentials(parasite::Program& program, const pb::creds_entry& from,
                                          SecurityModule module = SecurityModule::kNone,
                                          const std::string& label = {});

// "CAP_SYS_ADMIN", "capability 63".
std::string capability_name(unsigned number);
// The highest number this kernel knows.
unsigned last_capability();

}  // namespace dormouse::engine
