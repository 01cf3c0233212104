#include "engine/inventory.h"

#include <ctime>

namespace dormouse::engine {

std::uint64_t uptime_microseconds() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000 + static_cast<std::uint64_t>(now.tv_nsec) / 1000;
}

Result<> check_tracking(const PageTracking& tracking, const CheckpointOptions& options) {
  if (!options.track_memory || tracking.possible()) return {};
  return fail(Error::unsupported("this kernel cannot tell which pages were written")
                  .object("option --track-mem").owner("the dump")
                  .remedy("it takes CONFIG_MEM_SOFT_DIRTY, or Linux 6.7 with CONFIG_USERFAULTFD; dump without"));
}

}  // namespace dormouse::engine
