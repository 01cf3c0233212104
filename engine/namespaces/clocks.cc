#include "engine/namespaces/clocks.h"

#include <fcntl.h>

#include "kernel/file.h"

namespace dormouse::engine {

namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

proc::TimeOffset normal(std::int64_t seconds, std::int64_t nanoseconds) {
  seconds += nanoseconds / kSecond;
  nanoseconds %= kSecond;
  if (nanoseconds < 0) --seconds, nanoseconds += kSecond;
  return {seconds, nanoseconds};
}

proc::TimeOffset read_clock(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return {now.tv_sec, now.tv_nsec};
}

// Without CONFIG_TIME_NS there is no such file, and nothing to add.
Result<proc::TimeOffsets> offsets_in(int proc) {
  const auto text = sys::read_file(proc, "timens_offsets");
  if (text) return proc::parse_timens_offsets(*text);
  if (text.error().is_kernel(ENOENT)) return proc::TimeOffsets{};
  return fail(text.error());
}

}  // namespace

proc::TimeOffset add(proc::TimeOffset a, proc::TimeOffset b) {
  return normal(a.seconds + b.seconds, a.nanoseconds + b.nanoseconds);
}
proc::TimeOffset subtract(proc::TimeOffset a, proc::TimeOffset b) {
  return normal(a.seconds - b.seconds, a.nanoseconds - b.nanoseconds);
}

Result<proc::TimeOffsets> initial_clocks() {
  const Fd self = TRY(sys::openat(AT_FDCWD, "/proc/self", O_PATH | O_DIRECTORY));
  const auto own = TRY(offsets_in(self.get()));
  return proc::TimeOffsets{subtract(read_clock(CLOCK_MONOTONIC), own.monotonic),
                           subtract(read_clock(CLOCK_BOOTTIME), own.boottime)};
}

Result<proc::TimeOffsets> clocks_of(int proc) {
  const auto theirs = TRY(offsets_in(proc));
  const auto now = TRY(initial_clocks());
  return proc::TimeOffsets{add(now.monotonic, theirs.monotonic), add(now.boottime, theirs.boottime)};
}

}  // namespace dormouse::engine
