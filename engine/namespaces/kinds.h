// The kinds of namespace, in the order in which they are counted.
#pragma once

#include <sched.h>

#include <array>
#include <cstdint>

#include "engine/namespaces/namespaces.h"
#include "kernel/abi.h"

namespace dormouse::engine {

struct NamespaceKind {
  const char* name;  // of the file in /proc/PID/ns, of the options' "ipc", "net[…]"
  std::uint64_t flag;
  std::uint32_t NamespaceIds::*id;
};

inline constexpr std::array kNamespaceKinds{
    NamespaceKind{"pid", CLONE_NEWPID, &NamespaceIds::pid},
    NamespaceKind{"net", CLONE_NEWNET, &NamespaceIds::net},
    NamespaceKind{"ipc", CLONE_NEWIPC, &NamespaceIds::ipc},
    NamespaceKind{"uts", CLONE_NEWUTS, &NamespaceIds::uts},
    NamespaceKind{"time", abi::kCloneNewTime, &NamespaceIds::time},
    NamespaceKind{"mnt", CLONE_NEWNS, &NamespaceIds::mnt},
    NamespaceKind{"user", CLONE_NEWUSER, &NamespaceIds::user},
    NamespaceKind{"cgroup", CLONE_NEWCGROUP, &NamespaceIds::cgroup},
};

}  // namespace dormouse::engine
