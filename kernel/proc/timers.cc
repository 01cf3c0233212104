#include "kernel/proc/timers.h"

#include <signal.h>

#include "base/text.h"
#include "kernel/proc/scan.h"

namespace dormouse::proc {
namespace {

// "signal: 14/00007ffd3e1c8a60": the value as the kernel's %px prints it, a null pointer as zeros, which
// some kernels write "(null)".
void read_signal(Scan& scan, PosixTimer& timer) {
  timer.signal = scan.number<int>();
  scan.expect('/');
  if (scan.rest() != "(null)") timer.value = scan.number<std::uint64_t>(16);
}

// "notify: signal/tid.1234"
bool read_notify(std::string_view text, PosixTimer& timer) {
  const std::string_view how = take_until(text, '/');
  const std::string_view whom = take_until(text, '.');
  if (how == "signal") timer.notify = SIGEV_SIGNAL;
  else if (how == "none") timer.notify = SIGEV_NONE;
  else if (how == "thread") timer.notify = SIGEV_THREAD;
  else return false;
  if (whom == "tid") timer.notify |= SIGEV_THREAD_ID;
  const auto pid = parse_number<pid_t>(text);
  timer.notified = pid.value_or(0);
  return pid.has_value();
}

}  // namespace

Result<std::vector<PosixTimer>> parse_timers(std::string_view text) {
  std::vector<PosixTimer> all;
  while (!text.empty()) {
    const std::string_view line = take_until(text, '\n');
    std::string_view rest = line;
    const std::string_view key = take_until(rest, ':');
    Scan scan(trim(rest));
    bool fine = true;
    if (key == "ID") all.emplace_back().id = scan.number<int>();
    else if (all.empty()) fine = false;
    else if (key == "signal") read_signal(scan, all.back());
    else if (key == "notify") fine = read_notify(trim(rest), all.back());
    else if (key == "ClockID") all.back().clock_id = scan.number<int>();
    if (!fine || !scan.ok()) return fail(unexpected_line("timers", line));
  }
  return all;
}

}  // namespace dormouse::proc
