// Restore: which namespaces to make or to enter, and what to put into them.
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "base/format.h"
#include "base/text.h"
#include "engine/ipc/system_v_restore.h"
#include "engine/namespaces/clocks.h"
#include "engine/namespaces/ipc_limits.h"
#include "engine/namespaces/kinds.h"
#include "images/schema/namespaces.pb.h"
#include "images/schema/network.pb.h"
#include "kernel/file.h"
#include "kernel/process.h"
#include "netns/contents.h"

namespace dormouse::engine {

namespace {

NamespaceIds ids_of(const pb::task_kobj_ids_entry& entry) {
  return {.pid = entry.pid_ns_id(), .net = entry.net_ns_id(), .ipc = entry.ipc_ns_id(), .uts = entry.uts_ns_id(),
          .mnt = entry.mnt_ns_id(), .user = entry.user_ns_id(), .cgroup = entry.cgroup_ns_id(),
          .time = entry.time_ns_id()};
}

NamespaceIds root_ids(const RestoreContext& context) { return ids_of(context.image.tasks.front().ids); }

// Kinds in which the saved tasks were not where the engine was.
std::uint64_t saved_own(const RestoreContext& context) {
  const NamespaceIds root = root_ids(context), outside = ids_of(context.image.inventory.root_ids());
  std::uint64_t own = 0;
  for (const auto& kind : kNamespaceKinds)
    if (root.*kind.id && root.*kind.id != outside.*kind.id) own |= kind.flag;
  return own;
}

const NamespaceKind* find_kind(std::string_view name) {
  const auto found = std::ranges::find(kNamespaceKinds, name, &NamespaceKind::name);
  return found == kNamespaceKinds.end() ? nullptr : &*found;
}

// Number of the image with the clocks: that of the time namespace, or 0 for the node's clocks.
std::uint32_t clocks_number(const RestoreContext& context) {
  return saved_own(context) & abi::kCloneNewTime ? root_ids(context).time : 0;
}

}  // namespace

struct NamespaceContents {
  pb::utsns_entry names;
  pb::ipc_var_entry limits;
  SystemVPlan objects;
  std::optional<bool> loopback_up;
};
NamespacePlan::NamespacePlan() = default;
NamespacePlan::NamespacePlan(NamespacePlan&&) noexcept = default;
NamespacePlan& NamespacePlan::operator=(NamespacePlan&&) noexcept = default;
NamespacePlan::~NamespacePlan() = default;

namespace {

class Planner {
 public:
  explicit Planner(const RestoreContext& context) : context_(context), options_(context.options) {}

  Result<NamespacePlan> run() {
    if (context_.image.tasks.empty()) return fail(Error::corrupt("there is no task").object("image"));
    plan_.create = saved_own(context_);
    if (context_.in.exists(images::kTimens, clocks_number(context_))) plan_.create |= abi::kCloneNewTime;
    else plan_.create &= ~abi::kCloneNewTime;
    TRY(enter_external(CLONE_NEWNET));
    TRY(enter_external(CLONE_NEWPID));
    for (const auto& join : options_.join_namespaces)
      TRY_OR(enter_joined(join), std::move(e).object(format("{} namespace {}", join.kind, join.path)));
    // The user namespace last: afterwards, the right to enter the others may be gone.
    std::ranges::stable_partition(plan_.enter, [](const auto& pair) { return pair.second != CLONE_NEWUSER; });
    TRY(read_contents());
    return std::move(plan_);
  }

 private:
  // The name under which the namespace was declared to come from outside.
  Result<std::string> external_key(std::uint64_t flag) {
    const NamespaceIds ids = root_ids(context_);
    if (flag == CLONE_NEWNET && context_.in.exists(images::kNetns, ids.net)) {
      pb::netns_entry entry;
      TRY(context_.in.read(images::kNetns, ids.net, entry));
      return entry.ext_key();
    }
    if (flag == CLONE_NEWPID && context_.in.exists(images::kPidns, ids.pid)) {
      pb::pidns_entry entry;
      TRY(context_.in.read(images::kPidns, ids.pid, entry));
      return entry.ext_key();
    }
    return std::string();
  }

  [[nodiscard]] Result<> enter_external(std::uint64_t flag) {
    if (!(plan_.create & flag)) return {};
    const std::string key = TRY(external_key(flag));
    if (key.empty()) return {};
    const auto found = std::ranges::find(options_.inherited, key, &InheritedFd::key);
    if (found == options_.inherited.end())
      return fail(Error::bad_option(format("it comes from outside under the name '{}', and nobody gave it", key))
                      .object(flag == CLONE_NEWNET ? "net namespace" : "pid namespace")
                      .remedy(format("hand over a descriptor with --inherit-fd fd[N]:{}", key)));
    return enter(TRY(sys::duplicate(found->fd)), flag);
  }

  [[nodiscard]] Result<> enter_joined(const JoinNamespace& join) {
    const NamespaceKind* const kind = find_kind(join.kind);
    if (!kind || kind->flag == CLONE_NEWPID || kind->flag == CLONE_NEWCGROUP)
      return fail(Error::bad_option("a namespace of this kind cannot be joined")
                      .remedy("net, uts, ipc, time, user and mnt can"));
    // A pid stands for its namespace.
    const bool is_pid = parse_number<pid_t>(join.path).has_value();
    const std::string path = is_pid ? format("/proc/{}/ns/{}", join.path, kind->name) : join.path;
    return enter(TRY(sys::openat(AT_FDCWD, path, O_RDONLY)), kind->flag);
  }

  [[nodiscard]] Result<> enter(Fd fd, std::uint64_t flag) {
    plan_.create &= ~flag;
    // Entering one's own user namespace again is an error to the kernel.
    if (flag == CLONE_NEWUSER) {
      const auto theirs = TRY(sys::fstat(fd.get()));
      const auto ours = TRY(sys::fstatat(AT_FDCWD, "/proc/self/ns/user"));
      if (theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino) return {};
    }
    plan_.enter.emplace_back(std::move(fd), flag);
    return {};
  }

  [[nodiscard]] Result<> read_contents() {
    plan_.contents = std::make_unique<NamespaceContents>();
    NamespaceContents& contents = *plan_.contents;
    const NamespaceIds ids = root_ids(context_);
    if (plan_.create & CLONE_NEWUTS) TRY(context_.in.read(images::kUtsns, ids.uts, contents.names));
    if (plan_.create & CLONE_NEWIPC) {
      TRY(context_.in.read(images::kIpcnsVar, ids.ipc, contents.limits));
      contents.objects = TRY(plan_system_v(context_, ids.ipc));
    } else if (!context_.image.segments.empty()) {
      return fail(Error::unsupported("it holds System V shared memory, which is only made in a namespace of its own")
                      .object("ipc namespace").remedy("restore without --join-ns ipc"));
    }
    if (plan_.create & CLONE_NEWNET && context_.in.exists(images::kNetdev, ids.net)) TRY(read_links(ids.net));
    return {};
  }

  [[nodiscard]] Result<> read_links(std::uint32_t id) {
    auto reader = TRY(context_.in.reader(images::kNetdev, id));
    for (pb::net_device_entry device; TRY(reader.next(device));) {
      if (device.type() == pb::LOOPBACK) plan_.contents->loopback_up = device.flags() & IFF_UP;
      else if (!(options_.empty_namespaces & CLONE_NEWNET))
        return fail(Error::unsupported("a link of this kind cannot be restored")
                        .object(format("link {}", device.name()))
                        .remedy("let the runtime restore the network: --empty-ns net"));
    }
    return {};
  }

  const RestoreContext& context_;
  const RestoreOptions& options_;
  NamespacePlan plan_;
};

// A new user namespace is entered as nobody: owners of files that are made there must be known in it. All
// capabilities are kept, as the ids change towards root. A change of ids makes a process undumpable, and its
// own /proc files another's.
[[nodiscard]] Result<> become_root() {
  // Not where setgroups() was given up for the right to map groups.
  (void)::setgroups(0, nullptr);
  if (::setresgid(0, 0, 0) == -1) return fail(Error::kernel("setresgid", errno));
  if (::setresuid(0, 0, 0) == -1) return fail(Error::kernel("setresuid", errno));
  TRY(sys::prctl(PR_SET_DUMPABLE, 1));
  return {};
}

[[nodiscard]] Result<> fill_names(const pb::utsns_entry& entry) {
  if (::sethostname(entry.nodename().data(), entry.nodename().size()) == -1)
    return fail(Error::kernel("sethostname", errno));
  if (::setdomainname(entry.domainname().data(), entry.domainname().size()) == -1)
    return fail(Error::kernel("setdomainname", errno));
  return {};
}

// Limits may have been lowered since the objects were made.
[[nodiscard]] Result<> fill_ipc(const RestoreContext& context, const NamespaceContents& contents) {
  const auto defaults = TRY(read_ipc_limits());
  TRY(write_ipc_limits(contents.objects.limits_needed(higher_limits(defaults, contents.limits)), context.log));
  TRY(make_system_v(context, contents.objects));
  return write_ipc_limits(contents.limits, context.log);
}

std::string id_map_text(const google::protobuf::RepeatedPtrField<pb::uid_gid_extent>& map) {
  std::string text;
  for (const auto& extent : map)
    text += format("{} {} {}\n", extent.first(), extent.lower_first(), extent.count());
  return text;
}

// Whoever lacks CAP_SETGID outside must give up setgroups() inside before mapping groups (Linux 3.19).
[[nodiscard]] Result<> write_group_map(const std::string& directory, const std::string& text) {
  const auto written = sys::write_file(AT_FDCWD, directory + "gid_map", text);
  if (written || !written.error().is_kernel(EPERM)) return written;
  TRY(sys::write_file(AT_FDCWD, directory + "setgroups", "deny"));
  return sys::write_file(AT_FDCWD, directory + "gid_map", text);
}

}  // namespace

Result<NamespacePlan> plan_namespaces(const RestoreContext& context) { return Planner(context).run(); }

Result<> fill_namespaces(const RestoreContext& context, const NamespacePlan& plan) {
  if (plan.create & CLONE_NEWUSER) TRY_OR(become_root(), std::move(e).object("user namespace"));
  if (!plan.contents) return {};
  const NamespaceContents& contents = *plan.contents;
  if (plan.create & CLONE_NEWUTS)
    TRY_OR(fill_names(contents.names), std::move(e).object("uts namespace"));
  if (plan.create & CLONE_NEWIPC) TRY_OR(fill_ipc(context, contents), std::move(e).object("ipc namespace"));
  // A new one has it down.
  if (contents.loopback_up)
    TRY_OR(netns::set_loopback(*contents.loopback_up), std::move(e).object("net namespace"));
  return {};
}

Result<> write_user_maps(const RestoreContext& context, pid_t pid) {
  pb::userns_entry entry;
  TRY(context.in.read(images::kUserns, root_ids(context).user, entry));
  const std::string directory = format("/proc/{}/", pid);
  TRY_OR(sys::write_file(AT_FDCWD, directory + "uid_map", id_map_text(entry.uid_map())),
         std::move(e).object("user namespace"));
  TRY_OR(write_group_map(directory, id_map_text(entry.gid_map())), std::move(e).object("user namespace"));
  return {};
}

Result<> write_time_offsets(const RestoreContext& context) {
  pb::timens_entry entry;
  TRY(context.in.read(images::kTimens, clocks_number(context), entry));
  const auto saved = [](const pb::timespec& time) {
    return proc::TimeOffset{static_cast<std::int64_t>(time.tv_sec()), static_cast<std::int64_t>(time.tv_nsec())};
  };
  const auto now = TRY(initial_clocks());
  const auto monotonic = subtract(saved(entry.monotonic()), now.monotonic);
  const auto boottime = subtract(saved(entry.boottime()), now.boottime);
  TRY_OR(sys::write_file(AT_FDCWD, "/proc/self/timens_offsets",
                         format("{} {} {}\n{} {} {}\n", CLOCK_MONOTONIC, monotonic.seconds, monotonic.nanoseconds,
                                CLOCK_BOOTTIME, boottime.seconds, boottime.nanoseconds)),
         std::move(e).object("time namespace"));
  return {};
}

}  // namespace dormouse::engine
