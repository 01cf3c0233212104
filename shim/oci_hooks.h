// The hooks of a bundle, run for a container that is restored.
//
// What runs when:
//   prestart, createRuntime   once the container's namespaces exist (stage "setup-namespaces"), with
//                             the root task's pid, in the runtime's namespaces, as runc does it
//   createContainer,          not at all, as with runc: what they did inside of the container's
//   startContainer            namespaces is part of the checkpoint, and would be done twice
//   poststart                 after the tasks have been resumed (runc leaves them out on restore)
//   poststop                  after the container was deleted
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/log.h"
#include "oci/config.h"

namespace dormouse::shim {

// Runs the hooks one after the other, each with `state` (JSON) on its stdin and in the directory
// `bundle`. A hook without an environment of its own gets ours. The first that fails (exit status,
// signal, time-out) ends the round; the error quotes what it wrote last.
[[nodiscard]] Result<> run_hooks(std::string_view kind, std::span<const oci::Hook> hooks, const std::string& state,
                                 const std::string& bundle);

// As the specification wants it after the end of a container: a failure is logged, the next one runs.
void run_hooks_to_the_end(std::string_view kind, std::span<const oci::Hook> hooks, const std::string& state,
                          const std::string& bundle, Log& log);

}  // namespace dormouse::shim
