// A whole image set in memory, except page contents and raw archives: decoded, with every reference
// between records checked. Decoding has no side effects; policy is applied by the planner.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "base/error.h"
#include "images/directory.h"
#include "images/schema/cgroups.pb.h"
#include "images/schema/files.pb.h"
#include "images/schema/inventory.pb.h"
#include "images/schema/memory.pb.h"
#include "images/schema/mounts.pb.h"
#include "images/schema/namespaces.pb.h"
#include "images/schema/task.pb.h"

namespace dormouse::engine {

struct ImageTask {
  pb::pstree_entry tree;
  pb::core_entry core;                        // of the leader
  pb::task_kobj_ids_entry ids;                // alive tasks only
  std::map<std::uint32_t, pb::core_entry> thread_cores;  // the other threads, by tid
  std::optional<pb::mm_entry> mm;             // absent for zombies
  std::optional<pb::fs_entry> fs;
  std::uint32_t pages_number = 0;             // pages-N.img of this address space; 0: none
  std::vector<pb::pagemap_entry> pagemap;
  bool alive() const;
};

struct ShmemImage {
  std::uint32_t pages_number = 0;
  std::vector<pb::pagemap_entry> pagemap;
};

struct Image {
  pb::inventory_entry inventory;
  std::vector<ImageTask> tasks;                              // parents before children; [0] is the root
  std::map<std::uint32_t, pb::file_entry> files;             // by file id
  std::map<std::uint32_t, std::vector<pb::fdinfo_entry>> descriptors;  // by files_id
  std::map<std::uint64_t, ShmemImage> shmem;                 // by shmid
  std::map<std::uint32_t, pb::memfd_inode_entry> memfds;     // by inode_id
  std::vector<pb::mnt_entry> mounts;                         // of the root task's mount namespace
  std::optional<pb::cgroup_entry> cgroups;
  std::optional<pb::seccomp_entry> seccomp;
};

Result<Image> load_image(const images::InputDirectory& in);

}  // namespace dormouse::engine
