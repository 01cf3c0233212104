#include "engine/mounts/filesystems.h"

#include <algorithm>
#include <array>

#include "base/text.h"

namespace dormouse::engine {

namespace {

constexpr std::array kFilesystems{
    Filesystem{"proc", 1, Content::kNone},
    Filesystem{"sysfs", 2, Content::kNone},
    Filesystem{"devtmpfs", 3, Content::kNone},
    Filesystem{"binfmt_misc", 4, Content::kNone},
    Filesystem{"tmpfs", 5, Content::kTmpfs},
    Filesystem{"devpts", 6, Content::kNone},
    Filesystem{"simfs", 7, Content::kNone},
    Filesystem{"pstore", 8, Content::kMustBeEmpty},
    Filesystem{"securityfs", 9, Content::kNone},
    Filesystem{"fusectl", 10, Content::kNone},
    Filesystem{"debugfs", 11, Content::kNone},
    Filesystem{"cgroup", 12, Content::kNone},
    Filesystem{"aufs", 13, Content::kNone},
    Filesystem{"mqueue", 14, Content::kNone},
    Filesystem{"fuse", 15, Content::kRefused},
    Filesystem{"overlay", 17, Content::kNone},
    Filesystem{"autofs", 18, Content::kRefused},
    Filesystem{"tracefs", 19, Content::kNone},
    Filesystem{"cgroup2", 23, Content::kNone},
};

}  // namespace

const Filesystem* filesystem_by_name(std::string_view name) {
  const auto found = std::ranges::find(kFilesystems, take_until(name, '.'), &Filesystem::name);
  return found == kFilesystems.end() ? nullptr : &*found;
}

const Filesystem* filesystem_by_number(std::uint32_t number) {
  const auto found = std::ranges::find(kFilesystems, number, &Filesystem::number);
  return found == kFilesystems.end() ? nullptr : &*found;
}

}  // namespace dormouse::engine
