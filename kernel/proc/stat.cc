#include "kernel/proc/stat.h"

#include "base/text.h"
#include "kernel/proc/scan.h"

namespace dormouse::proc {

Result<Stat> parse_stat(std::string_view text) {
  const std::string_view line = trim(text);
  // The name is not escaped and may contain anything; what follows it cannot contain ')'.
  const auto open = line.find('(');
  const auto close = line.rfind(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open)
    return fail(unexpected_line("stat", line));

  Stat stat;
  Scan head(line.substr(0, open));
  stat.pid = head.number<pid_t>();
  stat.comm = line.substr(open + 1, close - open - 1);

  Scan scan(line.substr(close + 1));
  const auto skip = [&](int fields) {
    for (int i = 0; i < fields; ++i) {
      scan.expect(' ');
      scan.word();
    }
  };
  const auto next = [&](auto& to) {
    scan.expect(' ');
    to = scan.number<std::remove_reference_t<decltype(to)>>();
  };
  // Field numbers as in proc(5).
  scan.expect(' ');
  const std::string_view state = scan.word();  // 3
  if (!state.empty()) stat.state = state.front();
  next(stat.ppid);
  next(stat.pgrp);
  next(stat.session);
  int device = 0;  // 7; printed as a signed number
  next(device);
  stat.tty_device = static_cast<std::uint32_t>(device);
  next(stat.tty_pgrp);
  next(stat.flags);  // 9
  skip(4);
  next(stat.user_ticks);  // 14
  next(stat.system_ticks);
  skip(2);
  next(stat.priority);  // 18
  next(stat.nice);
  next(stat.num_threads);  // 20
  skip(1);
  next(stat.start_time_ticks);  // 22
  skip(3);
  next(stat.start_code);  // 26
  next(stat.end_code);
  next(stat.start_stack);  // 28
  skip(9);
  next(stat.exit_signal);  // 38
  skip(1);
  next(stat.rt_priority);  // 40
  next(stat.policy);
  skip(3);
  next(stat.start_data);  // 45
  next(stat.end_data);
  next(stat.start_brk);
  next(stat.arg_start);
  next(stat.arg_end);
  next(stat.env_start);
  next(stat.env_end);
  next(stat.exit_code);  // 52
  if (!scan.ok() || !head.ok()) return fail(unexpected_line("stat", line));
  return stat;
}

}  // namespace dormouse::proc
