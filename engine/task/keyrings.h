// Keyrings (keyrings(7)). A task that is restored has the session keyring of its restorer, as every new process has that of its
// maker: asking a task for its own would give it one if it had none, and what keys hold is often nobody's to read. The keyrings
// of a process and of a thread are nobody else's, and go with them: who has keys in one cannot be saved.
#pragma once

#include <optional>
#include <string>

#include "base/error.h"
#include "parasite/host/area.h"
#include "parasite/host/program.h"

namespace dormouse::engine {

struct KeyringsAsked {
  parasite::OpRef thread;
  std::optional<parasite::OpRef> process;  // of the process: the leader is asked
};
KeyringsAsked ask_keyrings(parasite::Program& program, bool leader);
// An error names the keyring; the caller knows whose it is.
[[nodiscard]] Result<> refuse_keys(const parasite::Placed& placed, const KeyringsAsked& asked);

}  // namespace dormouse::engine
