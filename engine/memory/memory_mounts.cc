#include "engine/memory/memory_mounts.h"

#include <linux/memfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>

#include "kernel/file.h"

namespace dormouse::engine {

MemoryMounts MemoryMounts::look() {
  constexpr std::uint32_t kKinds[] = {0, MFD_HUGETLB | MFD_HUGE_2MB, MFD_HUGETLB | MFD_HUGE_1GB};
  std::vector<dev_t> devices;
  for (const std::uint32_t kind : kKinds) {
    const auto file = sys::memfd_create("dormouse-mount", kind);
    if (!file) continue;  // a processor without pages of that size
    struct stat status{};
    if (::fstat(file->get(), &status) == 0) devices.push_back(status.st_dev);
  }
  return MemoryMounts(std::move(devices));
}

bool MemoryMounts::hold(dev_t device) const { return std::ranges::find(devices_, device) != devices_.end(); }

bool MemoryMounts::hold(std::uint32_t major, std::uint32_t minor) const { return hold(makedev(major, minor)); }

}  // namespace dormouse::engine
