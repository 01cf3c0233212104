#include <sys/random.h>

#include <array>
#include <cerrno>

#include "base/format.h"
#include "images/directory.h"

namespace dormouse::images {

Result<std::string> new_generation() {
  std::array<std::uint64_t, 2> random{};
  // So few bytes come at once or not at all.
  if (::getrandom(random.data(), sizeof random, 0) != sizeof random) return fail(Error::kernel("getrandom", errno));
  return format("{:016x}{:016x}", random[0], random[1]);
}

}  // namespace dormouse::images
