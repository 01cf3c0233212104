// The steps of a MountPlan.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/mounts/mounts_restore.h"

namespace dormouse::engine {

// One mount to make and to put in its place.
struct MountStep {
  enum class Kind : std::uint8_t {
    kRoot,      // a copy of the node's mount at options.root
    kExternal,  // a copy of the node's mount at `source`
    kNew,       // a file system of its own
    kBind,      // a copy of an earlier step's mount, at `source` below its root
  };
  Kind kind = Kind::kNew;
  std::uint32_t id = 0;     // in the image
  std::string mount_point;  // in the container
  int parent = -1;          // the step it is mounted on; -1: none, this is the root
  std::string target;       // where, below the parent's root; "": on the root itself

  int provider = -1;        // kBind: the step it is a copy of
  std::string source;       // kExternal: path on the node; kBind: path; kNew: the device, or any text

  std::string type, options;         // kNew
  std::uint32_t super_flags = 0;     // kNew: MS_*
  std::optional<std::uint32_t> archive;  // kNew: number of the file with its content
  std::vector<std::uint32_t> terminals;  // kNew, devpts: indices of those that later steps are copies of

  std::uint64_t attributes = 0;  // MOUNT_ATTR_*
  bool unbindable = false;
  bool keep_master = false;      // it follows the same group outside as what it is a copy of
  std::vector<int> copies;       // later steps of kind kBind that this one provides for

  std::string object() const;
};

// Mounts that propagate to each other.
struct SharingGroup {
  std::uint32_t shared_id = 0;  // 0: they do not share among each other, they only follow
  std::uint32_t master_id = 0;  // 0: they follow nobody
  int master_step = -1;         // the step they get their master from; -1: from outside, or none
  std::vector<int> members;     // steps; the first one's root contains the others'
};

}  // namespace dormouse::engine
