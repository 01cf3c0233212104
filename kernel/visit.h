// Doing something inside another process's namespaces without ever leaving one's own.
#pragma once

#include <type_traits>

#include "base/error.h"

namespace dormouse::sys {

// Runs `work(argument)` in a short-lived child that has entered the namespaces `types` (CLONE_NEW*) of
// the process behind `pidfd` (Linux 5.8). The child shares memory and descriptors with the caller, who
// waits: results are simply stored, descriptors opened inside stay open. The child has its own working
// directory, root and namespaces, so there is nothing to undo, whatever happens to either of the two.
//
// CLONE_NEWTIME cannot be entered this way (the kernel wants a process whose memory nobody shares).
[[nodiscard]] Result<> visit_namespaces(int pidfd, int types, Result<> (*work)(void*), void* argument);

template <class Work>
[[nodiscard]] Result<> visit_namespaces(int pidfd, int types, Work&& work) {
  using Plain = std::remove_reference_t<Work>;
  return visit_namespaces(
      pidfd, types, [](void* argument) -> Result<> { return (*static_cast<Plain*>(argument))(); },
      const_cast<std::remove_const_t<Plain>*>(&work));
}

}  // namespace dormouse::sys
