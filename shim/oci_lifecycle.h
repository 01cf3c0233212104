// `dormouse state`, `kill` and `delete`: the rest of the life of a restored container.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"

namespace dormouse::shim {

// The specification's state as JSON; also of containers of runc.
Result<std::string> container_state(const std::vector<std::string>& roots, const std::string& id);

// A name ("TERM", "SIGTERM") or a number. With `all`, to every process in the container's cgroups.
[[nodiscard]] Result<> kill_container(const std::vector<std::string>& roots, const std::string& id,
                                      const std::string& signal, bool all);

struct DeleteOptions {
  bool force = false;   // kills what runs; a container that is not there is fine
  Log* log = nullptr;   // for hooks that fail; may be null
};
// Ends what is left of it, removes cgroups and state, runs the poststop hooks.
[[nodiscard]] Result<> delete_container(const std::vector<std::string>& roots, const std::string& id,
                                        const DeleteOptions& options);

Result<int> parse_signal(const std::string& text);

}  // namespace dormouse::shim
