#include "shim/option_values.h"

#include <fcntl.h>

#include <array>
#include <cerrno>

#include "base/text.h"

namespace dormouse::shim {
namespace {

Error bad(std::string_view text, std::string_view expected) {
  return Error::bad_option(format("\"{}\" is not {}", text, expected));
}

// The flags of an automatic external mount: m also accepts masters outside, s also shared peers.
Result<> accept_outside_mounts(Settings& settings, std::string_view flags) {
  settings.common.auto_external_mounts = true;
  for (const char c : flags) {
    if (c == 'm')
      settings.dump.external_masters = true;
    else if (c == 's')
      settings.dump.external_sharing = true;
    else
      return fail(bad(flags, "a combination of the flags m and s"));
  }
  return {};
}

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
  constexpr std::string_view kExpected = "a size such as 65536, 64K, 1M or 2G";
  unsigned shift = 0;
  std::string_view digits = text;
  if (!text.empty()) {
    const char unit = text.back();
    shift = unit == 'K' ? 10 : unit == 'M' ? 20 : unit == 'G' ? 30 : 0;
    if (shift) digits.remove_suffix(1);
  }
  const auto number = parse_number<std::uint64_t>(digits);
  if (!number || *number > (UINT64_MAX >> shift)) return fail(bad(text, kExpected));
  return *number << shift;
}

Result<> add_cpu_checks(engine::CpuChecks& checks, std::string_view text) {
  engine::CpuChecks all = checks;
  for (std::string_view word : split(text, ',')) {
    bool on = true;
    for (; word.starts_with('^'); word.remove_prefix(1)) on = !on;
    if (word == "none") on = !on;
    if (word == "fpu") all.fpu = on;
    else if (word == "ins") all.instructions = on;
    else if (word == "cpu") all.exact = on;
    else if (word == "all" || word == "none") all.fpu = all.instructions = all.exact = on;
    else return fail(bad(word, "one of fpu, ins, cpu, all, none, or one of them after ^"));
  }
  all.record = all.any();
  checks = all;
  return {};
}

engine::CpuChecks cpu_checks_of(std::uint32_t bits) {
  return {.record = true, .fpu = (bits & 1) != 0, .instructions = (bits & 4) != 0, .exact = (bits & 2) != 0};
}

Result<engine::CgroupMode> parse_cgroup_mode(std::string_view text) {
  using enum engine::CgroupMode;
  constexpr std::array<std::pair<std::string_view, engine::CgroupMode>, 7> kModes{
      {{"", kSoft},
       {"none", kNone},
       {"props", kProps},
       {"soft", kSoft},
       {"full", kFull},
       {"strict", kStrict},
       {"ignore", kIgnore}}};
  for (const auto& [name, mode] : kModes)
    if (text == name) return mode;
  return fail(bad(text, "one of none, props, soft, full, strict, ignore"));
}

engine::CgroupRoot parse_cgroup_root(std::string_view text) {
  engine::CgroupRoot root;
  const auto colon = text.find(':');
  root.every_controller = colon == std::string_view::npos;
  if (!root.every_controller) root.controller = text.substr(0, colon);
  root.path = root.every_controller ? text : text.substr(colon + 1);
  return root;
}

Result<engine::NetworkLock> parse_network_lock(std::string_view text) {
  if (text == "iptables") return engine::NetworkLock::kIptables;
  if (text == "nftables") return engine::NetworkLock::kNftables;
  if (text == "skip" || text == "none") return engine::NetworkLock::kSkip;
  return fail(bad(text, "one of iptables, nftables, skip"));
}

Result<engine::PreDumpMode> parse_pre_dump_mode(std::string_view text) {
  if (text == "splice") return engine::PreDumpMode::kSplice;
  if (text == "read") return engine::PreDumpMode::kRead;
  return fail(bad(text, "one of splice, read"));
}

Result<engine::InheritedFd> inherited_fd(std::string key, int fd) {
  // Asked before anything else is opened: later, the number could be one of our own descriptors.
  if (::fcntl(fd, F_GETFD) < 0)
    return fail(Error::kernel("inherited descriptor", errno).object(format("fd {}", fd)));
  return engine::InheritedFd{std::move(key), fd};
}

Result<engine::InheritedFd> parse_inherited_fd(std::string_view text) {
  std::string_view rest = text;
  if (consume_prefix(rest, "fd[")) {
    const auto number = parse_number<int>(take_until(rest, ']'));
    if (number && *number >= 0 && consume_prefix(rest, ":") && !rest.empty())
      return inherited_fd(std::string(rest), *number);
  }
  return fail(bad(text, "of the form fd[NUMBER]:RESOURCE"));
}

Result<engine::JoinNamespace> join_namespace(std::string kind, std::string file,
                                             std::string extra) {
  constexpr std::array<std::string_view, 6> kKinds{"net", "uts", "time", "ipc", "user", "mnt"};
  if (kind == "pid")
    return fail(Error::unsupported("a pid namespace cannot be joined")
                    .object("join-ns pid")
                    .remedy("make it external: external pid[INODE]:KEY and inherit-fd"));
  for (const std::string_view known : kKinds) {
    if (kind != known) continue;
    // A process id stands for that process's namespace.
    if (parse_number<pid_t>(file)) file = format("/proc/{}/ns/{}", file, kind);
    return engine::JoinNamespace{std::move(kind), std::move(file), std::move(extra)};
  }
  return fail(bad(kind, "a kind of namespace (net, uts, time, ipc, user, mnt)"));
}

Result<engine::JoinNamespace> parse_join_namespace(std::string_view text) {
  std::string_view rest = text;
  const std::string_view kind = take_until(rest, ':');
  const std::string_view file = take_until(rest, ',');
  if (file.empty()) return fail(bad(text, "of the form NS:{PID|FILE}[,OPTIONS]"));
  return join_namespace(std::string(kind), std::string(file), std::string(rest));
}

Result<pid_t> parse_pid(std::string_view text) {
  const auto pid = parse_number<pid_t>(text);
  if (!pid || *pid <= 0) return fail(bad(text, "a process id"));
  return *pid;
}

Result<int> parse_descriptor(std::string_view text) {
  const auto fd = parse_number<int>(text);
  if (!fd || *fd < 0) return fail(bad(text, "a descriptor number"));
  return *fd;
}

Result<> add_external(Settings& settings, std::string_view text) {
  std::string_view rest = text;
  if (consume_prefix(rest, "mnt[]")) {
    if (!rest.empty() && !consume_prefix(rest, ":"))
      return fail(bad(text, "of the form mnt[] or mnt[]:FLAGS"));
    return accept_outside_mounts(settings, rest);
  }
  const auto open = text.find('[');
  const auto close = text.find(']');
  if (open == 0 || open == std::string_view::npos || close == std::string_view::npos ||
      close < open)
    return fail(bad(text, "of the form TYPE[ID]:VALUE"));
  if (!text.starts_with("mnt[")) {
    settings.common.externals.emplace_back(text);
    return {};
  }
  // A path may hold brackets: the one that counts is followed by a colon.
  const auto end = text.find("]:");
  if (end == std::string_view::npos || end + 2 == text.size())
    return fail(bad(text, "of the form mnt[MOUNTPOINT]:NAME"));
  settings.common.external_mounts.push_back(
      {std::string(text.substr(4, end - 4)), std::string(text.substr(end + 2))});
  return {};
}

Result<> add_external_mount_map(Settings& settings, std::string_view text) {
  std::string_view rest = text;
  const std::string_view key = take_until(rest, ':');
  if (key == "auto") return accept_outside_mounts(settings, rest);
  if (key.empty() || rest.empty())
    return fail(bad(text, "of the form KEY:VALUE, auto or auto:FLAGS"));
  settings.common.external_mounts.push_back({std::string(key), std::string(rest)});
  return {};
}

Result<> add_external_sockets(Settings& settings, std::string_view text) {
  for (const std::string_view field : split(text, ',')) {
    if (!parse_number<std::uint32_t>(field)) return fail(bad(text, "a list of socket inodes"));
    settings.common.externals.push_back(format("unix[{}]", field));
  }
  return {};
}

Result<> add_veth_pair(Settings& settings, std::string_view text) {
  std::string_view rest = text;
  const std::string_view inner = take_until(rest, '=');
  if (inner.empty() || rest.empty()) return fail(bad(text, "of the form INNER=OUTER"));
  settings.common.externals.push_back(format("veth[{}]:{}", inner, rest));
  return {};
}

}  // namespace dormouse::shim
