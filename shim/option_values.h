// The little languages inside option values. The same functions serve RPC fields.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "engine/options.h"
#include "shim/settings.h"

namespace dormouse::shim {

// "4096", "64K", "1M", "2G".
Result<std::uint64_t> parse_size(std::string_view text);
// "none", "props", "soft", "full", "strict", "ignore"; empty is soft.
Result<engine::CgroupMode> parse_cgroup_mode(std::string_view text);
// "[CONTROLLER:]/PATH": without a controller the root holds for all that have none of their own.
engine::CgroupRoot parse_cgroup_root(std::string_view text);
// "LIST" of fpu, ins, cpu, all, none, each negated by a leading "^"; added to what the checks are.
[[nodiscard]] Result<> add_cpu_checks(engine::CpuChecks& checks, std::string_view text);
// The numbers of RPC: 1 fpu, 2 cpu, 4 ins.
engine::CpuChecks cpu_checks_of(std::uint32_t bits);
// "iptables", "nftables", "skip".
Result<engine::NetworkLock> parse_network_lock(std::string_view text);
Result<engine::PreDumpMode> parse_pre_dump_mode(std::string_view text);
// "fd[N]:RESOURCE". N must be an open descriptor of this process.
Result<engine::InheritedFd> parse_inherited_fd(std::string_view text);
Result<engine::InheritedFd> inherited_fd(std::string key, int fd);
// "NS:{PID|FILE}[,EXTRA]".
Result<engine::JoinNamespace> parse_join_namespace(std::string_view text);
Result<engine::JoinNamespace> join_namespace(std::string kind, std::string file, std::string extra);
// A process id, positive.
Result<pid_t> parse_pid(std::string_view text);
Result<int> parse_descriptor(std::string_view text);

// "TYPE[ID]:VALUE". Mounts, in either spelling of theirs, end up in one place.
[[nodiscard]] Result<> add_external(Settings& settings, std::string_view text);
// "KEY:VALUE", "auto", "auto:FLAGS".
[[nodiscard]] Result<> add_external_mount_map(Settings& settings, std::string_view text);
// "INODE[,INODE…]".
[[nodiscard]] Result<> add_external_sockets(Settings& settings, std::string_view text);
// "INNER=OUTER", the older spelling of an external veth.
[[nodiscard]] Result<> add_veth_pair(Settings& settings, std::string_view text);

}  // namespace dormouse::shim
