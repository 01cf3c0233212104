// The many small settings that prctl() and its kin keep for a process or a thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "base/error.h"
#include "parasite/host/area.h"
#include "parasite/host/program.h"

namespace dormouse::pb {
class mm_entry;
class task_core_entry;
class core_entry;
class thread_info_x86;
}  // namespace dormouse::pb

namespace dormouse::engine {

// --- saving -------------------------------------------------------------------------------------
struct ProcessSettingsAsked {
  parasite::OpRef dumpable, thp_disabled;
  parasite::DataRef child_subreaper;
  std::optional<parasite::OpRef> registrations;       // of membarrier(), where the kernel tells them
  std::optional<parasite::OpRef> barriers[3];         // elsewhere: whether a barrier of that kind may be issued
};
ProcessSettingsAsked ask_process_settings(parasite::Program& program);
void save_process_settings(const parasite::Placed& placed, const ProcessSettingsAsked& asked,
                           pb::task_core_entry& to);

struct ThreadSettingsAsked {
  parasite::DataRef clear_child_tid, parent_death_signal;
};
ThreadSettingsAsked ask_thread_settings(parasite::Program& program);
void save_thread_settings(const parasite::Placed& placed, const ThreadSettingsAsked& asked, pb::core_entry& to);
// TLS segments, which 32-bit code uses. The thread must be in a ptrace stop.
[[nodiscard]] Result<> save_segments(pid_t tid, pb::thread_info_x86& to);

// What the reference engine stores for /proc/PID/personality, and what was meant: it reads the file's
// hexadecimal digits as decimal ones. We store the number itself.
std::uint32_t personality_of(std::uint32_t stored);

// --- restoring ----------------------------------------------------------------------------------
void append_process_settings(parasite::Program& program, const pb::task_core_entry& from, bool thp_disabled);
[[nodiscard]] Result<> append_thread_settings(parasite::Program& program, const pb::task_core_entry& process,
                                              const pb::core_entry& from);
// What a change of credentials resets, and so comes after it.
void append_late_settings(parasite::Program& program, const pb::mm_entry* mm, const pb::core_entry& from);

}  // namespace dormouse::engine
