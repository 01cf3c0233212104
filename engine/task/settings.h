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
class thread_core_entry;
class thread_info_x86;
}  // namespace dormouse::pb

namespace dormouse::engine {

// --- saving -------------------------------------------------------------------------------------
struct ProcessSettingsAsked {
  parasite::OpRef dumpable, thp_disabled, own_segments;
  parasite::DataRef child_subreaper;
  std::optional<parasite::OpRef> registrations;       // of membarrier(), where the kernel tells them
  std::optional<parasite::OpRef> barriers[3];         // elsewhere: whether a barrier of that kind may be issued
};
ProcessSettingsAsked ask_process_settings(parasite::Program& program);
// It has segments of its own (modify_ldt()), which the format has no place for.
bool has_own_segments(const parasite::Placed& placed, const ProcessSettingsAsked& asked);
void save_process_settings(const parasite::Placed& placed, const ProcessSettingsAsked& asked,
                           pb::task_core_entry& to);

struct ThreadSettingsAsked {
  parasite::DataRef clear_child_tid, parent_death_signal;
};
ThreadSettingsAsked ask_thread_settings(parasite::Program& program);
void save_thread_settings(const parasite::Placed& placed, const ThreadSettingsAsked& asked, pb::core_entry& to);
// TLS segments, which 32-bit code uses. The thread must be in a ptrace stop.
[[nodiscard]] Result<> save_segments(pid_t tid, pb::thread_info_x86& to);
// 32-bit code has a robust list of its own, which only the thread can be asked for.
parasite::DataRef ask_robust_list32(parasite::Program& program);
void save_robust_list32(const parasite::Placed& placed, parasite::DataRef asked, pb::thread_core_entry& to);

// What the reference engine stores for /proc/PID/personality, and what was meant: it reads the file's
// hexadecimal digits as decimal ones. We store the number itself.
std::uint32_t personality_of(std::uint32_t stored);

// --- restoring ----------------------------------------------------------------------------------
void append_process_settings(parasite::Program& program, const pb::task_core_entry& from, bool thp_disabled);
[[nodiscard]] Result<> append_thread_settings(parasite::Program& program, const pb::task_core_entry& process,
                                              const pb::core_entry& from);
// By the engine, before the registers: the selectors in those must name something. The thread is in a ptrace stop.
[[nodiscard]] Result<> restore_segments(pid_t tid, const pb::thread_info_x86& from);
// What a change of credentials resets, and so comes after it.
void append_late_settings(parasite::Program& program, const pb::mm_entry* mm, std::uint32_t death_signal);

}  // namespace dormouse::engine
