#include "engine/files/identity.h"

#include <linux/kcmp.h>

#include "base/format.h"
#include "engine/files/open_file.h"
#include "kernel/process.h"

namespace dormouse::engine {
namespace {

Result<int> ask_kernel(OpenFileSet::Place one, OpenFileSet::Place other) {
  return sys::kcmp(one.pid, other.pid, KCMP_FILE, static_cast<unsigned long>(one.number),
                   static_cast<unsigned long>(other.number));
}

}  // namespace

OpenFileSet::OpenFileSet() : OpenFileSet(ask_kernel) {}

Result<OpenFileSet::Answer> OpenFileSet::find_or_add(const OpenFile& file, std::uint32_t& next_id) {
  const Looks looks{file.stat.st_dev, file.stat.st_ino, file.pos, file.flags, file.mount_id};
  std::vector<Known>& alike = known_[looks];
  const Place place{file.task->agent(), file.number};
  std::size_t low = 0, high = alike.size();
  while (low < high) {
    const std::size_t middle = (low + high) / 2;
    const int order = TRY(compare_(place, alike[middle].place));
    if (order == 0) return Answer{&alike[middle], false};
    // 3 would mean "different, but not ordered"; no kernel answers that for files.
    if (order != 1 && order != 2)
      return fail(Error::unsupported(format("kcmp() gave the unknown answer {}", order)));
    if (order == 1)
      high = middle;
    else
      low = middle + 1;
  }
  const auto at = alike.insert(alike.begin() + static_cast<std::ptrdiff_t>(low),
                               Known{place, next_id++, 0});
  return Answer{&*at, true};
}

}  // namespace dormouse::engine
