// A whole image set in memory, except page contents and raw archives: decoded, with every reference
// between records checked. Decoding has no side effects; policy is applied by the planner.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "base/error.h"
#include "engine/memory/chunks.h"
#include "engine/plan/page_sources.h"
#include "images/directory.h"
#include "images/schema/attributes.pb.h"
#include "images/schema/cgroups.pb.h"
#include "images/schema/files.pb.h"
#include "images/schema/inventory.pb.h"
#include "images/schema/ipc.pb.h"
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
  // What we know beyond the reference format, by tid; empty in its images.
  std::map<std::uint32_t, pb::thread_attributes_entry> attributes;
  std::optional<pb::mm_entry> mm;             // absent for zombies
  pb::memory_attributes_entry memory_attributes;  // of its mm, beyond the reference format
  std::optional<pb::fs_entry> fs;
  std::vector<PageRun> pages;                 // ascending; where each is, see Image::page_files
  bool alive() const;
  // Its main thread runs 32-bit code.
  bool is_32_bit() const;
  // It cannot be restored without system calls of 32-bit code.
  bool needs_32_bit_calls() const;
};

struct ShmemImage {
  std::vector<PageRun> pages;
};

// System V shared memory.
struct ImageSegment {
  pb::ipc_shm_entry entry;
  std::vector<PageRun> pages;
  // Of one attachment: whole pages, huge ones where it has those.
  std::uint64_t mapped_bytes() const;
};

struct Image {
  pb::inventory_entry inventory;
  std::vector<ImageTask> tasks;                              // parents before children; [0] is the root
  std::map<std::uint32_t, pb::file_entry> files;             // by file id
  std::map<std::uint32_t, std::vector<pb::fdinfo_entry>> descriptors;  // by files_id
  std::map<std::uint64_t, ShmemImage> shmem;                 // by shmid
  std::map<std::uint32_t, pb::memfd_inode_entry> memfds;     // by inode_id
  std::map<std::uint64_t, ImageSegment> segments;            // by id; of the root task's IPC namespace
  std::vector<PageFileName> page_files;                      // what PageRun::file counts
  std::vector<pb::file_lock_entry> locks;                    // on files; of descriptors that are there
  std::vector<pb::mnt_entry> mounts;                         // of the root task's mount namespace
  std::map<std::uint32_t, int> exit_signals;                 // by pid, where it is not SIGCHLD; 0: none
  std::optional<pb::cgroup_entry> cgroups;
  std::optional<pb::seccomp_entry> seccomp;
};

Result<Image> load_image(images::Chain& chain);

}  // namespace dormouse::engine
