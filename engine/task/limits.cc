#include "engine/task/limits.h"

#include <sys/resource.h>

#include <algorithm>
#include <cerrno>

#include "base/format.h"
#include "images/schema/task.pb.h"
#include "kernel/process.h"

namespace dormouse::engine {
namespace {

constexpr std::string_view kNames[proc::kLimitCount] = {
    "RLIMIT_CPU",     "RLIMIT_FSIZE",      "RLIMIT_DATA",     "RLIMIT_STACK", "RLIMIT_CORE",   "RLIMIT_RSS",
    "RLIMIT_NPROC",   "RLIMIT_NOFILE",     "RLIMIT_MEMLOCK",  "RLIMIT_AS",    "RLIMIT_LOCKS",  "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE", "RLIMIT_NICE",      "RLIMIT_RTPRIO",   "RLIMIT_RTTIME"};

std::string text_of(std::uint64_t value) {
  return value == RLIM_INFINITY ? std::string("unlimited") : format("{}", value);
}

}  // namespace

std::string_view limit_name(std::size_t number) {
  return number < std::size(kNames) ? kNames[number] : std::string_view("unknown limit");
}

void save_limits(const Limits& limits, pb::task_rlimits_entry& to) {
  for (const proc::Limit& limit : limits) {
    pb::rlimit_entry& entry = *to.add_rlimits();
    entry.set_cur(limit.soft);
    entry.set_max(limit.hard);
  }
}

Result<> apply_limits(pid_t pid, const Limits& now, const pb::task_rlimits_entry& from) {
  const std::size_t count = std::min<std::size_t>(static_cast<std::size_t>(from.rlimits_size()), now.size());
  for (std::size_t i = 0; i < count; ++i) {
    const pb::rlimit_entry& entry = from.rlimits(static_cast<int>(i));
    if (entry.cur() == now[i].soft && entry.max() == now[i].hard) continue;
    const ::rlimit limit{entry.cur(), entry.max()};
    Result<> set = sys::setrlimit(pid, static_cast<int>(i), limit);
    if (set) continue;
    Error error = std::move(set).error();
    if (error.is_kernel(EPERM) && entry.max() > now[i].hard)
      error = Error::unsupported(format("its hard limit {} is above what may be given here, {}",
                                        text_of(entry.max()), text_of(now[i].hard)))
                  .remedy("raise this limit for the engine's caller, or give it CAP_SYS_RESOURCE");
    return fail(std::move(error).object(std::string(limit_name(i))));
  }
  return {};
}

}  // namespace dormouse::engine
