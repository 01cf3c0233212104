#include "engine/files/user_maps.h"

#include "kernel/file.h"

namespace dormouse::engine {

std::uint32_t IdMap::inside(std::uint32_t id) const {
  for (const auto& range : ranges_)
    if (id >= range.outside && id - range.outside < range.count)
      return static_cast<std::uint32_t>(range.inside + (id - range.outside));
  return id;
}

std::uint32_t IdMap::outside(std::uint32_t id) const {
  for (const auto& range : ranges_)
    if (id >= range.inside && id - range.inside < range.count)
      return static_cast<std::uint32_t>(range.outside + (id - range.inside));
  return id;
}

Result<UserMaps> UserMaps::of(int proc) {
  const std::string uids = TRY(sys::read_file(proc, "uid_map"));
  const std::string gids = TRY(sys::read_file(proc, "gid_map"));
  return UserMaps{IdMap(TRY(proc::parse_id_map(uids))), IdMap(TRY(proc::parse_id_map(gids)))};
}

}  // namespace dormouse::engine
