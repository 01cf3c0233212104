// Dump: what the namespaces of the tree hold, one image each.
#include <fcntl.h>
#include <net/if.h>
#include <sys/mount.h>
#include <sys/utsname.h>

#include <optional>
#include <string>

#include "base/format.h"
#include "engine/externals.h"
#include "engine/ipc/system_v.h"
#include "engine/namespaces/clocks.h"
#include "engine/namespaces/ipc_limits.h"
#include "engine/namespaces/kinds.h"
#include "images/schema/namespaces.pb.h"
#include "images/schema/network.pb.h"
#include "kernel/file.h"
#include "kernel/mount_api.h"
#include "kernel/proc/small.h"
#include "kernel/visit.h"
#include "netns/contents.h"

namespace dormouse::engine {

namespace {

// What a visitor found in there.
struct Found {
  utsname names{};
  Result<pb::ipc_var_entry> limits = pb::ipc_var_entry();
  Result<SystemVObjects> objects = SystemVObjects();
  Result<std::vector<sys::DirectoryEntry>> letters = std::vector<sys::DirectoryEntry>();  // POSIX queues
  Result<Fd> route_socket = Fd();
};

// Every mount of mqueue in one IPC namespace shows the same queues.
Result<std::vector<sys::DirectoryEntry>> posix_queues() {
  const auto context = sys::fsopen("mqueue");
  if (!context && context.error().is_kernel(ENODEV)) return std::vector<sys::DirectoryEntry>();
  if (!context) return fail(context.error());
  TRY(sys::fsconfig_create(context->get()));
  const Fd mount = TRY(sys::fsmount(context->get()));
  return sys::list_directory(mount.get(), ".");
}

void look_at_ipc(Found& found) {
  found.limits = read_ipc_limits();
  if (found.limits) found.objects = read_system_v(found.limits->shm_rmid_forced() != 0);
  found.letters = posix_queues();
}

class Saver {
 public:
  Saver(DumpContext& context, const NamespacesDump& namespaces, std::vector<SavedSegment>& segments)
      : context_(context),
        namespaces_(namespaces),
        segments_(segments),
        root_(context.tree.root()),
        ids_(namespaces.ids_of(root_)) {}

  [[nodiscard]] Result<> run() {
    external_net_ = TRY(external("net"));
    external_pid_ = TRY(external("pid"));
    TRY(visit());
    if (own(CLONE_NEWUSER)) TRY(save_users());
    if (own(CLONE_NEWPID)) TRY(save_pids());
    if (own(CLONE_NEWUTS)) TRY(save_names());
    if (own(CLONE_NEWIPC)) TRY(save_ipc());
    if (own(CLONE_NEWNET)) TRY(save_network());
    return {};
  }

 private:
  bool own(std::uint64_t flag) const { return namespaces_.own() & flag; }

  void refuse(std::string object, std::string reason, std::string remedy) {
    context_.blockers.add(Error::unsupported(std::move(reason))
                              .object(std::move(object))
                              .owner(root_.name())
                              .remedy(std::move(remedy)));
  }

  Result<std::optional<std::string>> external(const std::string& kind) const {
    const auto stat = TRY(sys::fstatat(root_.proc.get(), "ns/" + kind));
    const auto value = external_value(context_.options.externals, kind, format("{}", stat.st_ino));
    return value ? std::optional<std::string>(*value) : std::nullopt;
  }

  [[nodiscard]] Result<> visit() {
    const bool network = own(CLONE_NEWNET) && !external_net_;
    const std::uint64_t types =
        (namespaces_.own() & (CLONE_NEWUTS | CLONE_NEWIPC)) | (network ? CLONE_NEWNET : 0);
    if (!types) return {};
    return sys::visit_namespaces(root_.pidfd.get(), static_cast<int>(types), [&]() -> Result<> {
      if (types & CLONE_NEWUTS) ::uname(&found_.names);
      if (types & CLONE_NEWIPC) look_at_ipc(found_);
      if (types & CLONE_NEWNET) found_.route_socket = netns::open_route_socket();
      return {};
    });
  }

  [[nodiscard]] Result<> save_users() {
    pb::userns_entry entry;
    for (const auto& [file, map] : {std::pair{"uid_map", entry.mutable_uid_map()},
                                    std::pair{"gid_map", entry.mutable_gid_map()}}) {
      const std::string text = TRY(sys::read_file(root_.proc.get(), file));
      for (const auto all = TRY(proc::parse_id_map(text)); const auto& range : all) {
        auto* const extent = map->Add();
        extent->set_first(range.inside);
        extent->set_lower_first(range.outside);
        extent->set_count(range.count);
      }
    }
    return context_.out.write(images::kUserns, ids_.user, entry);
  }

  [[nodiscard]] Result<> save_pids() {
    if (external_pid_) {
      pb::pidns_entry entry;
      entry.set_ext_key(*external_pid_);
      return context_.out.write(images::kPidns, ids_.pid, entry);
    }
    if (root_.ns_pid != 1)
      refuse("pid namespace", "its init is not part of the tree",
             "checkpoint from its init, or declare it with --external pid[INODE]:NAME");
    return {};
  }

  [[nodiscard]] Result<> save_names() {
    pb::utsns_entry entry;
    entry.set_nodename(found_.names.nodename);
    entry.set_domainname(found_.names.domainname);
    return context_.out.write(images::kUtsns, ids_.uts, entry);
  }

  [[nodiscard]] Result<> save_ipc() {
    const auto limits = TRY_OR(std::move(found_.limits), std::move(e).object("ipc namespace").owner(root_.name()));
    TRY(context_.out.write(images::kIpcnsVar, ids_.ipc, limits));
    TRY(save_objects());
    if (!found_.letters) {
      context_.log.debug("ipc: cannot look for POSIX message queues: {}", found_.letters.error().message());
      return {};
    }
    for (const auto& letter : *found_.letters)
      refuse(format("POSIX message queue /{}", letter.name), "message queues cannot be saved", "remove it");
    return {};
  }

  Result<std::vector<proc::IdRange>> id_map(const char* file) const {
    return proc::parse_id_map(TRY(sys::read_file(root_.proc.get(), file)));
  }

  // The content of shared memory follows when all memory is saved.
  [[nodiscard]] Result<> save_objects() {
    if (!found_.objects) {
      context_.blockers.add(std::move(found_.objects).error().owner(root_.name()));
      return {};
    }
    SystemVObjects& objects = *found_.objects;
    if (own(CLONE_NEWUSER)) {
      const auto users = TRY(id_map("uid_map")), groups = TRY(id_map("gid_map"));
      context_.blockers.note(translate_owners(objects, users, groups));
    }
    TRY(write_system_v(context_.out, ids_.ipc, objects));
    segments_ = std::move(objects.segments);
    return {};
  }

  [[nodiscard]] Result<> save_network() {
    pb::netns_entry entry;
    if (external_net_) {
      entry.set_ext_key(*external_net_);
      return context_.out.write(images::kNetns, ids_.net, entry);
    }
    const auto failed = [&](Error error) {
      return std::move(error).object("net namespace").owner(root_.name());
    };
    const Fd socket = TRY_OR(std::move(found_.route_socket), failed(std::move(e)));
    // The runtime puts everything back but the loopback.
    if (context_.options.empty_namespaces & CLONE_NEWNET)
      return save_loopback(TRY_OR(netns::look_at_loopback(socket), failed(std::move(e))));
    const auto contents = TRY_OR(netns::look_at(socket), failed(std::move(e)));
    TRY(save_loopback(contents.loopback));
    for (const auto& extra : contents.extras)
      refuse(extra, "this part of a net namespace cannot be saved",
             "let the runtime restore the network: --empty-ns net, or --external net[INODE]:NAME");
    return context_.out.write(images::kNetns, ids_.net, entry);
  }

  [[nodiscard]] Result<> save_loopback(const netns::Loopback& loopback) {
    pb::net_device_entry device;
    device.set_type(pb::LOOPBACK);
    device.set_ifindex(loopback.index);
    device.set_mtu(loopback.mtu);
    device.set_flags(loopback.flags);
    device.set_name("lo");
    return context_.out.write(images::kNetdev, ids_.net, device);
  }

  DumpContext& context_;
  const NamespacesDump& namespaces_;
  std::vector<SavedSegment>& segments_;
  const Task& root_;
  const NamespaceIds& ids_;
  std::optional<std::string> external_net_, external_pid_;
  Found found_;
};

}  // namespace

Result<> NamespacesDump::save(DumpContext& context) { return Saver(context, *this, segments_).run(); }

// Always there; number 0 if the tasks live by the node's clocks.
Result<> NamespacesDump::save_clocks(DumpContext& context) const {
  const Task& root = context.tree.root();
  const auto clocks = TRY(clocks_of(root.proc.get()));
  pb::timens_entry entry;
  entry.mutable_monotonic()->set_tv_sec(static_cast<std::uint64_t>(clocks.monotonic.seconds));
  entry.mutable_monotonic()->set_tv_nsec(static_cast<std::uint64_t>(clocks.monotonic.nanoseconds));
  entry.mutable_boottime()->set_tv_sec(static_cast<std::uint64_t>(clocks.boottime.seconds));
  entry.mutable_boottime()->set_tv_nsec(static_cast<std::uint64_t>(clocks.boottime.nanoseconds));
  return context.out.write(images::kTimens, own_ & abi::kCloneNewTime ? ids_of(root).time : 0, entry);
}

}  // namespace dormouse::engine
