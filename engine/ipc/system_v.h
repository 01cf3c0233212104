// System V shared memory, semaphores and message queues of an IPC namespace.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "images/directory.h"
#include "images/schema/ipc.pb.h"
#include "kernel/file.h"
#include "kernel/proc/small.h"

namespace dormouse::engine {

// shm_perm.mode beyond the access bits, as SHM_STAT reports it and the image keeps it.
inline constexpr std::uint32_t kSegmentRemoved = 01000;  // SHM_DEST: goes with its last attachment
inline constexpr std::uint32_t kSegmentLocked = 02000;   // SHM_LOCKED

// How errors call it.
std::string segment_name(const pb::ipc_desc_entry& desc);

// One segment with a hold on its memory: removed and detached or not, it can be read.
struct SavedSegment {
  pb::ipc_shm_entry entry;
  Fd file;  // the file behind it, read-only
};

struct SavedSemaphores {
  pb::ipc_sem_entry entry;
  std::vector<std::uint16_t> values;
};

struct SavedQueue {
  struct Message {
    std::int64_t type = 0;
    std::vector<std::byte> text;
  };
  pb::ipc_msg_entry entry;
  std::vector<Message> messages;
};

struct SystemVObjects {
  std::vector<SavedSegment> segments;
  std::vector<SavedSemaphores> semaphores;
  std::vector<SavedQueue> queues;
};

// Everything there is in the caller's IPC namespace; nothing is taken out or changed, but the times of the last
// attachment. `removal_forced`: kernel.shm_rmid_forced of the namespace, under which an unattached
// segment cannot be looked at without being destroyed: kUnsupported.
Result<SystemVObjects> read_system_v(bool removal_forced);

// Owners as the tasks' user namespace knows them. kUnsupported: it does not know one.
[[nodiscard]] Result<> translate_owners(SystemVObjects& objects, std::span<const proc::IdRange> users,
                                        std::span<const proc::IdRange> groups);

// The images ipcns-shm, ipcns-sem and ipcns-msg of the namespace with this number.
[[nodiscard]] Result<> write_system_v(images::OutputDirectory& out, std::uint32_t number,
                                      const SystemVObjects& objects);

}  // namespace dormouse::engine
