#include "cgroups/properties.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <span>

#include "base/format.h"
#include "base/text.h"
#include "kernel/file.h"

namespace dormouse::cgroups {

namespace {

struct BuiltIn {
  std::string_view controller;
  std::span<const std::string_view> names;
};
constexpr std::string_view kCpu[] = {"cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us",
                                     "cpu.rt_period_us", "cpu.rt_runtime_us"};
// The limit of memory and swap together may not be below that of memory alone, hence the order.
constexpr std::string_view kMemory[] = {
    "memory.limit_in_bytes",      "memory.memsw.limit_in_bytes",
    "memory.swappiness",          "memory.soft_limit_in_bytes",
    "memory.move_charge_at_immigrate", "memory.oom_control",
    "memory.use_hierarchy",       "memory.kmem.limit_in_bytes",
    "memory.kmem.tcp.limit_in_bytes"};
constexpr std::string_view kCpuset[] = {
    "cpuset.cpus",          "cpuset.mems",           "cpuset.memory_migrate",
    "cpuset.cpu_exclusive", "cpuset.mem_exclusive",  "cpuset.mem_hardwall",
    "cpuset.memory_spread_page", "cpuset.memory_spread_slab", "cpuset.sched_load_balance",
    "cpuset.sched_relax_domain_level"};
constexpr std::string_view kBlkio[] = {"blkio.weight"};
constexpr std::string_view kNetCls[] = {"net_cls.classid"};
constexpr std::string_view kNetPrio[] = {"net_prio.ifpriomap"};
constexpr std::string_view kPids[] = {"pids.max"};
constexpr std::string_view kDevices[] = {"devices.list"};
constexpr BuiltIn kBuiltIn[] = {
    {"cpu", kCpu},       {"memory", kMemory},    {"cpuset", kCpuset}, {"blkio", kBlkio},
    {"net_cls", kNetCls}, {"net_prio", kNetPrio}, {"pids", kPids},     {"devices", kDevices},
};

constexpr std::string_view kEveryV1[] = {"cgroup.clone_children", "notify_on_release", "cgroup.procs",
                                         "tasks"};
constexpr std::string_view kEveryV2[] = {"cgroup.subtree_control", "cgroup.max.descendants",
                                         "cgroup.max.depth", "cgroup.freeze", "cgroup.type"};

// Limits of v2 controllers and what a new group has.
struct V2Limit {
  std::string_view name, fresh;
};
constexpr V2Limit kV2Limits[] = {
    {"cpu.weight", "100"},       {"cpu.max", "max 100000"}, {"cpu.max.burst", "0"},
    {"cpu.idle", "0"},           {"cpu.uclamp.min", "0.00"}, {"cpu.uclamp.max", "max"},
    {"memory.min", "0"},         {"memory.low", "0"},        {"memory.high", "max"},
    {"memory.max", "max"},       {"memory.swap.high", "max"}, {"memory.swap.max", "max"},
    {"memory.zswap.max", "max"}, {"memory.oom.group", "0"},  {"io.weight", "default 100"},
    {"io.max", ""},              {"pids.max", "max"},        {"cpuset.cpus", ""},
    {"cpuset.mems", ""},         {"cpuset.cpus.partition", "member"},
};

Result<std::string> read_value(int group, const std::string& name) {
  std::string text = TRY(sys::read_file(group, name));
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

// The kernel wants one entry in each write.
Result<> write_lines(int group, const char* file, std::string_view lines) {
  while (!lines.empty()) TRY(sys::write_file(group, file, take_until(lines, '\n')));
  return {};
}

// What is allowed can be read as a list, but only be changed entry by entry: deny all, then allow.
Result<> write_devices(int group, std::string_view list) {
  TRY(sys::write_file(group, "devices.deny", "a"));
  return write_lines(group, "devices.allow", list);
}

// Interfaces differ between nodes, and 0 is what every one of them starts with.
Result<> write_priorities(int group, std::string_view lines) {
  while (!lines.empty()) {
    const std::string_view line = take_until(lines, '\n');
    if (!line.ends_with(" 0")) (void)sys::write_file(group, "net_prio.ifpriomap", line);
  }
  return {};
}

// Takes words as read ("cpu memory") and writes differences ("-io +cpu").
Result<> write_subtree_control(int group, std::string_view wanted) {
  const std::string now = TRY(read_value(group, "cgroup.subtree_control"));
  const auto old_words = split(now, ' '), new_words = split(wanted, ' ');
  std::string change;
  const auto add = [&](char sign, const auto& words, const auto& unless) {
    for (const auto word : words) {
      if (word.empty() || std::ranges::find(unless, word) != unless.end()) continue;
      if (!change.empty()) change += ' ';
      change += sign;
      change += word;
    }
  };
  add('-', old_words, new_words);
  add('+', new_words, old_words);
  return change.empty() ? Result<>{} : sys::write_file(group, "cgroup.subtree_control", change);
}

}  // namespace

PropertyTable::PropertyTable() {
  for (const auto& [controller, names] : kBuiltIn)
    by_controller_.emplace(controller, std::vector<std::string>(names.begin(), names.end()));
}

std::vector<std::string> PropertyTable::names_for(const Hierarchy& hierarchy) const {
  std::vector<std::string> names;
  for (const auto& controller : hierarchy.controllers)
    if (const auto found = by_controller_.find(controller); found != by_controller_.end())
      names.insert(names.end(), found->second.begin(), found->second.end());
  if (!hierarchy.unified()) {
    names.insert(names.end(), std::begin(kEveryV1), std::end(kEveryV1));
  } else {
    names.insert(names.end(), std::begin(kEveryV2), std::end(kEveryV2));
    for (const auto& limit : kV2Limits) names.emplace_back(limit.name);
  }
  return names;
}

Result<std::optional<std::string>> read_property(int group, const std::string& name) {
  if (name == "cgroup.procs" || name == "tasks") {
    if (const auto there = sys::faccessat(group, name, F_OK); !there) {
      if (there.error().is_kernel(ENOENT)) return std::nullopt;
      return fail(there.error());
    }
    return "";
  }
  auto value = read_value(group, name);
  if (!value) {
    // A file may exist and yet have nothing to tell in this group (threads of v2, disabled swap).
    if (value.error().is_kernel(ENOENT) || value.error().is_kernel(EOPNOTSUPP)) return std::nullopt;
    return fail(std::move(value).error());
  }
  if (parse_number<std::uint64_t>(*value).value_or(0) >= std::numeric_limits<std::int64_t>::max())
    return "-1";
  if (name == "memory.oom_control") {
    std::string_view rest = *value;
    std::string_view first = take_until(rest, '\n');
    if (!consume_prefix(first, "oom_kill_disable "))
      return fail(Error::unsupported(format("cannot understand memory.oom_control: '{}'", *value)));
    return std::string(first);
  }
  return value;
}

bool is_v2_default(std::string_view name, std::string_view value) {
  const auto* const limit = std::ranges::find(kV2Limits, name, &V2Limit::name);
  return limit != std::end(kV2Limits) && limit->fresh == value;
}

bool may_be_missing(std::string_view name, std::string_view value) {
  constexpr std::string_view kNoLimit[] = {"", "0", "-1", "max", "9223372036854771712"};  // the last: whole pages
  constexpr std::string_view kObsolete[] = {
      "cgroup.clone_children", "memory.use_hierarchy",     "memory.kmem.limit_in_bytes",
      "cpu.rt_period_us",      "cpuset.memory_spread_slab", "cpuset.sched_relax_domain_level"};
  if (name == "memory.swappiness" && value == "60") return true;
  return std::ranges::find(kNoLimit, value) != std::end(kNoLimit) ||
         std::ranges::find(kObsolete, name) != std::end(kObsolete) || is_v2_default(name, value);
}

Moment moment_for(std::string_view name) {
  constexpr std::string_view kAtCreation[] = {
      "cpuset.cpus",       "cpuset.mems",        "devices.list",         "memory.kmem.limit_in_bytes",
      "memory.swappiness", "memory.oom_control", "memory.use_hierarchy", "cgroup.type"};
  if (name == "cgroup.procs" || name == "tasks") return Moment::kNever;
  if (name == "freezer.state" || name == "cgroup.freeze") return Moment::kLast;
  return std::ranges::find(kAtCreation, name) != std::end(kAtCreation) ? Moment::kCreation
                                                                       : Moment::kLater;
}

Result<> write_property(int group, const std::string& name, std::string_view value) {
  if (moment_for(name) == Moment::kNever) return {};
  // A domain becomes threaded, never the other way round.
  if (name == "cgroup.type" && value != "threaded") return {};
  const auto now = read_property(group, name);
  if (now && *now == value) return {};
  if (now && !*now)
    return fail(Error::unsupported("this cgroup has no such property").object(name));
  const auto written = [&]() -> Result<> {
    if (name == "devices.list") return write_devices(group, value);
    if (name == "net_prio.ifpriomap") return write_priorities(group, value);
    if (name == "cgroup.subtree_control") return write_subtree_control(group, value);
    if (name == "io.max") return write_lines(group, "io.max", value);
    return sys::write_file(group, name, value);
  }();
  // Deprecated by the kernel to the point of refusing (5.16); it limits nothing any more.
  if (!written && name == "memory.kmem.limit_in_bytes" && written.error().is_kernel(EOPNOTSUPP)) return {};
  return written;
}

}  // namespace dormouse::cgroups
