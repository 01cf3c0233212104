// /proc/PID/stat: the layout of the address space and what wait() will report.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace dormouse::proc {

// Addresses are 0 (or 1 for code) if the reader may not ptrace the task.
struct Stat {
  pid_t pid = 0;
  std::string comm;  // may hold blanks and parentheses
  char state = '?';
  pid_t ppid = 0, pgrp = 0, session = 0;
  std::uint32_t tty_device = 0;  // as in st_rdev of old: major << 8 | minor's low byte, …
  pid_t tty_pgrp = 0;            // -1: no terminal
  std::uint32_t flags = 0;       // PF_* of the kernel
  std::uint64_t user_ticks = 0, system_ticks = 0;
  int priority = 0, nice = 0;
  std::uint32_t num_threads = 0;
  std::uint64_t start_time_ticks = 0;  // since boot: with the pid an identity
  std::uint64_t start_code = 0, end_code = 0, start_stack = 0;
  int exit_signal = 0;
  std::uint32_t rt_priority = 0, policy = 0;
  std::uint64_t start_data = 0, end_data = 0, start_brk = 0;
  std::uint64_t arg_start = 0, arg_end = 0, env_start = 0, env_end = 0;
  int exit_code = 0;  // as in wait()'s status
};

Result<Stat> parse_stat(std::string_view text);

}  // namespace dormouse::proc
