#include "oci/cgroup_settings.h"

#include <algorithm>
#include <optional>

#include "base/format.h"
#include "base/text.h"

namespace dormouse::oci {
namespace {

// Collects writes; a value that was not asked for adds nothing.
class Writes {
 public:
  void always(std::string_view controller, std::string file, std::string value, bool may_lack = false) {
    list_.push_back({std::string(controller), std::move(file), std::move(value), may_lack});
  }
  template <class T>
  void number(std::string_view controller, std::string file, const std::optional<T>& value, bool may_lack = false) {
    if (value) always(controller, std::move(file), std::to_string(*value), may_lack);
  }
  void text(std::string_view controller, std::string file, const std::string& value) {
    if (!value.empty()) always(controller, std::move(file), value);
  }
  std::vector<CgroupWrite> take() && { return std::move(list_); }

 private:
  std::vector<CgroupWrite> list_;
};

std::string max_or(std::int64_t value) { return value < 0 ? "max" : std::to_string(value); }

// 0 would forbid every task; configurations that write it mean "none beyond the first".
std::optional<std::string> pids_max(const Resources& resources) {
  if (!resources.pids_limit) return std::nullopt;
  return *resources.pids_limit < 0 ? "max" : std::to_string(std::max<std::int64_t>(*resources.pids_limit, 1));
}

std::string device_line(const DeviceRule& rule) {
  if (rule.type == 'a') return "a";
  const auto number = [](const std::optional<std::int64_t>& value) { return value ? std::to_string(*value) : "*"; };
  return format("{} {}:{} {}", rule.type, number(rule.major), number(rule.minor), rule.access);
}

// v1 refuses memory.limit above memory.memsw.limit. A new cgroup has no limits, so memory comes first.
void memory_v1(const Resources& resources, Writes& writes) {
  writes.number("memory", "memory.limit_in_bytes", resources.memory_limit);
  if (resources.memory_swap)
    writes.number("memory", "memory.memsw.limit_in_bytes", resources.memory_swap);
  else if (resources.memory_limit == -1)
    writes.always("memory", "memory.memsw.limit_in_bytes", "-1", true);
  writes.number("memory", "memory.soft_limit_in_bytes", resources.memory_reservation);
  writes.number("memory", "memory.swappiness", resources.memory_swappiness);
  if (resources.disable_oom_killer) writes.always("memory", "memory.oom_control", "1");
}

void cpu_v1(const Resources& resources, Writes& writes) {
  writes.number("cpu", "cpu.rt_period_us", resources.cpu_realtime_period);
  writes.number("cpu", "cpu.rt_runtime_us", resources.cpu_realtime_runtime);
  if (resources.cpu_shares && *resources.cpu_shares != 0) writes.number("cpu", "cpu.shares", resources.cpu_shares);
  if (resources.cpu_period && *resources.cpu_period != 0) writes.number("cpu", "cpu.cfs_period_us", resources.cpu_period);
  if (resources.cpu_quota && *resources.cpu_quota != 0) writes.number("cpu", "cpu.cfs_quota_us", resources.cpu_quota);
  writes.number("cpu", "cpu.cfs_burst_us", resources.cpu_burst, true);
  writes.number("cpu", "cpu.idle", resources.cpu_idle);
  writes.text("cpuset", "cpuset.cpus", resources.cpuset_cpus);
  writes.text("cpuset", "cpuset.mems", resources.cpuset_mems);
}

// v1's shares go from 2 to 262144 with 1024 as default, v2's weight from 1 to 10000.
std::uint64_t weight_of_shares(std::uint64_t shares) {
  shares = std::clamp<std::uint64_t>(shares, 2, 262144);
  return 1 + (shares - 2) * 9999 / 262142;
}

void memory_v2(const Resources& resources, Writes& writes) {
  if (resources.memory_limit) writes.always("", "memory.max", max_or(*resources.memory_limit));
  // The configuration counts memory and swap together, v2 counts swap alone.
  if (resources.memory_swap) {
    const bool both = *resources.memory_swap >= 0 && resources.memory_limit.value_or(-1) >= 0;
    const auto swap = both ? std::max<std::int64_t>(*resources.memory_swap - *resources.memory_limit, 0)
                           : *resources.memory_swap;
    writes.always("", "memory.swap.max", max_or(swap), swap < 0);
  }
  if (resources.memory_reservation) writes.always("", "memory.low", max_or(*resources.memory_reservation));
}

void cpu_v2(const Resources& resources, Writes& writes) {
  if (resources.cpu_shares && *resources.cpu_shares != 0)
    writes.always("", "cpu.weight", std::to_string(weight_of_shares(*resources.cpu_shares)));
  const auto quota = resources.cpu_quota.value_or(0);
  if (quota != 0 || resources.cpu_period.value_or(0) != 0) {
    const auto period = resources.cpu_period.value_or(0);
    writes.always("", "cpu.max", format("{} {}", quota > 0 ? std::to_string(quota) : "max", period != 0 ? period : 100000));
  }
  writes.number("", "cpu.max.burst", resources.cpu_burst, true);
  writes.number("", "cpu.idle", resources.cpu_idle);
  writes.text("", "cpuset.cpus", resources.cpuset_cpus);
  writes.text("", "cpuset.mems", resources.cpuset_mems);
}

// "a-b.slice" lies in "a.slice".
std::string slice_directory(std::string_view slice) {
  slice.remove_suffix(std::string_view(".slice").size());
  if (slice == "-") return "/";
  std::string path, prefix;
  for (const auto part : split(slice, '-')) {
    prefix += prefix.empty() ? std::string(part) : "-" + std::string(part);
    path += "/" + prefix + ".slice";
  }
  return path;
}

std::optional<std::string> systemd_cgroup(std::string_view path) {
  const auto parts = split(path, ':');
  if (parts.size() != 3 || !parts[0].ends_with(".slice") || parts[2].empty() ||
      path.find('/') != std::string_view::npos)
    return std::nullopt;
  const std::string name(parts[2]);
  const std::string unit = name.ends_with(".slice") ? name
                           : parts[1].empty()       ? name + ".scope"
                                                    : format("{}-{}.scope", parts[1], name);
  return clean_path(slice_directory(parts[0]) + "/" + unit);
}

}  // namespace

std::vector<DeviceRule> effective_device_rules(const Resources& resources) {
  std::vector<DeviceRule> rules = {{false, 'a', {}, {}, "rwm"}};
  rules.insert(rules.end(), resources.devices.begin(), resources.devices.end());
  // Making a node is harmless, using it is not.
  rules.push_back({true, 'c', {}, {}, "m"});
  rules.push_back({true, 'b', {}, {}, "m"});
  for (const Device& device : default_devices())
    rules.push_back({true, device.type, device.major, device.minor, "rwm"});
  rules.push_back({true, 'c', 136, {}, "rwm"});  // /dev/pts/N
  rules.push_back({true, 'c', 5, 2, "rwm"});     // /dev/ptmx
  rules.push_back({true, 'c', 10, 200, "rwm"});  // /dev/net/tun
  return rules;
}

std::vector<CgroupWrite> cgroup_writes_v1(const Resources& resources) {
  Writes writes;
  for (const DeviceRule& rule : effective_device_rules(resources))
    writes.always("devices", rule.allow ? "devices.allow" : "devices.deny", device_line(rule));
  memory_v1(resources, writes);
  cpu_v1(resources, writes);
  if (const auto limit = pids_max(resources)) writes.always("pids", "pids.max", *limit);
  if (resources.blkio_weight.value_or(0) != 0) writes.number("blkio", "blkio.weight", resources.blkio_weight, true);
  for (const HugepageLimit& limit : resources.hugepage_limits)
    writes.always("hugetlb", format("hugetlb.{}.limit_in_bytes", limit.page_size), std::to_string(limit.limit_bytes));
  return std::move(writes).take();
}

std::vector<CgroupWrite> cgroup_writes_v2(const Resources& resources) {
  Writes writes;
  memory_v2(resources, writes);
  cpu_v2(resources, writes);
  if (const auto limit = pids_max(resources)) writes.always("", "pids.max", *limit);
  if (const auto weight = resources.blkio_weight.value_or(0); weight != 0)
    writes.always("", "io.bfq.weight", std::to_string(weight), true);
  for (const HugepageLimit& limit : resources.hugepage_limits)
    writes.always("", format("hugetlb.{}.max", limit.page_size), std::to_string(limit.limit_bytes));
  for (const auto& [file, value] : resources.unified) writes.always("", file, value);
  return std::move(writes).take();
}

std::string container_cgroup(std::string_view cgroups_path, std::string_view id, std::string_view own) {
  if (const auto path = systemd_cgroup(cgroups_path)) return *path;
  if (cgroups_path.starts_with('/')) return clean_path(cgroups_path);
  // Cleaned by itself first: ".." must not lead out of the caller's cgroup.
  const std::string inner = clean_path(cgroups_path.empty() ? id : cgroups_path);
  return clean_path(format("{}/{}", own, inner));
}

}  // namespace dormouse::oci
