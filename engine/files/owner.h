// Who gets signals about an open file: fcntl(F_SETOWN_EX), F_SETSIG, and the credentials that
// F_SETOWN_EX remembered for the permission check at delivery.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>

#include "base/error.h"

namespace dormouse::pb {
class fown_entry;
}

namespace dormouse::engine {

struct Tree;

struct FileOwner {
  uid_t uid = 0, euid = 0;
  int signal = 0;    // 0: SIGIO
  int pid_type = 0;  // F_OWNER_TID, F_OWNER_PID, F_OWNER_PGRP
  pid_t pid = 0;     // as the engine sees it; 0: nobody
};

Result<FileOwner> read_owner(int fd);

// The number of a task of the tree, by its pid as the engine sees it.
std::optional<pid_t> pid_in_image(const Tree& tree, pid_t pid);

// Into the numbers of the root task's pid namespace. An owner outside the tree becomes nobody, which
// is also what the tree's own F_GETOWN sees of it.
void owner_to_image(const FileOwner& owner, const Tree& tree, pb::fown_entry* entry);

// Finds the pid, as the engine sees it, of a task (or group) by its number in the image; 0: unknown.
using PidLookup = std::function<pid_t(pid_t)>;

// Signal first, then owner. Done by a short-lived child where the remembered credentials are not ours.
[[nodiscard]] Result<> set_owner(int fd, const pb::fown_entry& entry, const PidLookup& lookup);

}  // namespace dormouse::engine
