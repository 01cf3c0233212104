// /proc/PID/status: credentials, namespace-local ids, signal and capability sets.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace dormouse::proc {

// Ids in the order real, effective, saved, file system.
using FourIds = std::array<std::uint32_t, 4>;

// Ids and pids are as the reading process's namespaces show them. Signal masks: bit n-1 is signal n.
struct Status {
  std::string name;
  char state = '?';  // R S D T t X Z P I
  std::uint32_t umask = 0;
  pid_t tgid = 0, pid = 0, ppid = 0, tracer_pid = 0;
  FourIds uid{}, gid{};
  std::vector<std::uint32_t> groups;
  // The same id in every pid namespace, from the reader's down to the task's own.
  std::vector<pid_t> ns_tgid, ns_pid, ns_pgid, ns_sid;
  std::uint32_t threads = 0;
  std::uint64_t queued_signals = 0, queued_signals_limit = 0;
  std::uint64_t pending = 0, shared_pending = 0, blocked = 0, ignored = 0, caught = 0;
  std::uint64_t cap_inheritable = 0, cap_permitted = 0, cap_effective = 0, cap_bounding = 0,
                cap_ambient = 0;
  bool no_new_privs = false;
  std::uint32_t seccomp = 0;  // SECCOMP_MODE_*
  std::uint32_t seccomp_filters = 0;
  bool thp_enabled = true;
  bool kernel_thread = false, dumping_core = false;
  std::uint64_t vm_size_kb = 0, vm_rss_kb = 0, vm_locked_kb = 0;
};

Result<Status> parse_status(std::string_view text);

}  // namespace dormouse::proc
