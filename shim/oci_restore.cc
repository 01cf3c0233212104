#include "shim/oci_restore.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ctime>

#include "base/defer.h"
#include "kernel/file.h"
#include "kernel/process.h"
#include "oci/json.h"
#include "shim/oci_cgroup.h"
#include "shim/oci_console.h"
#include "shim/oci_externals.h"
#include "shim/oci_hooks.h"
#include "shim/oci_lifecycle.h"
#include "shim/oci_rootfs.h"
#include "shim/oci_signals.h"
#include "shim/oci_store.h"
#include "shim/oci_worker.h"
#include "shim/operations.h"

namespace dormouse::shim {
namespace {

constexpr std::chrono::seconds kDeathDeadline{10};

std::string now_rfc3339() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  tm utc{};
  ::gmtime_r(&now.tv_sec, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  return format("{}.{:09}Z", text, now.tv_nsec);
}

// What is behind our 0, 1 and 2 becomes what is behind the container's.
std::vector<std::string> own_descriptors() {
  std::vector<std::string> links;
  for (const char* path : {"/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"})
    links.push_back(sys::readlinkat(AT_FDCWD, path).value_or(""));
  return links;
}

struct Bundle {
  std::string text;
  oci::Config config;
};
Result<Bundle> read_bundle(const std::string& path) {
  Bundle bundle;
  const std::string file = path + "/config.json";
  bundle.text = TRY_OR(sys::read_file(AT_FDCWD, file),
                       std::move(e).object(file).remedy("--bundle names the directory with config.json"));
  bundle.config = TRY(oci::parse_config(bundle.text, file, path));
  return bundle;
}

Result<> check_terminal(const OciRestore& request, const oci::Config& config) {
  const auto refuse = [&](std::string reason, std::string remedy) -> Result<> {
    return fail(Error::bad_option(std::move(reason)).object("container " + request.id).remedy(std::move(remedy)));
  };
  if (config.terminal && request.detach && request.console_socket.empty())
    return refuse("has a terminal, and nobody to take it", "give --console-socket, or leave out --detach");
  if (!config.terminal && !request.console_socket.empty())
    return refuse("has no terminal to send to --console-socket", "leave the option out");
  return {};
}

// A restore under way, with everything that has to be undone if it fails. Members are undone in
// reverse order: first the mount, then the cgroups, then the state.
class Restoration {
 public:
  static Result<Restoration> prepare(const OciRestore& request, const Bundle& bundle);
  Result<pid_t> run(const EngineApi& engine, const OciRestore& request, const Bundle& bundle, SignalReader& signals);
  // The container lives on; its terminal, if we have it, is the caller's.
  Fd keep();
  // After a failure: nothing may be left running in cgroups that nobody else lived in, and what the
  // first hooks did is undone by the last ones.
  void end(const oci::Config& config, Log* log);

 private:
  Restoration(StateDirectory directory, ContainerCgroups cgroups, RootMount root)
      : directory_(std::move(directory)), cgroups_(std::move(cgroups)), root_(std::move(root)) {}
  Result<> describe(const oci::Config& config, const std::string& image_path, Settings& settings);
  Result<> on_stage(const engine::Notification& stage, const oci::Config& config);
  Result<> take_terminal(int master);
  Result<> save(pid_t pid);
  std::string hook_state(const oci::Config& config, std::string_view status, pid_t pid) const;

  StateDirectory directory_;
  ContainerCgroups cgroups_;
  RootMount root_;
  oci::State state_;
  bool hooks_ran_ = false;
  Fd console_;   // connected, if there is one
  Fd terminal_;  // the container's, if it is ours to show
  std::vector<CgroupMount> cgroup_mounts_;
  RestoredNamespaces namespaces_;
};

Result<Restoration> Restoration::prepare(const OciRestore& request, const Bundle& bundle) {
  const oci::Config& config = bundle.config;
  auto cgroup_mounts = TRY(discover_cgroup_mounts());
  auto directory = TRY(StateDirectory::create(request.roots.front(), request.id, bundle.text));
  auto cgroups = TRY(ContainerCgroups::make(cgroup_mounts, config, request.id));
  TRY(make_mount_points(config.rootfs, config.mounts));
  auto root = TRY(RootMount::make(config.rootfs, root_mount_path(directory.path())));
  Restoration restoration(std::move(directory), std::move(cgroups), std::move(root));
  restoration.cgroup_mounts_ = std::move(cgroup_mounts);
  restoration.state_ = {.id = request.id, .pid = 0, .pid_start_ticks = 0, .created = now_rfc3339(),
                        .bundle = request.bundle, .rootfs = config.rootfs,
                        .cgroup_paths = restoration.cgroups_.paths(), .external_descriptors = own_descriptors()};
  // Even one that is killed half-way can be deleted.
  TRY(restoration.directory_.save(restoration.state_));
  if (!request.console_socket.empty()) restoration.console_ = TRY(connect_console(request.console_socket));
  return restoration;
}

Result<> Restoration::describe(const oci::Config& config, const std::string& image_path, Settings& settings) {
  const Fd rootfs = TRY(sys::openat(AT_FDCWD, config.rootfs, O_PATH | O_DIRECTORY));
  const NodeView node{cgroup_mounts_, [&](const std::string& path) { return resolve_in_root(rootfs.get(), path); }};
  engine::CommonOptions& common = settings.common;
  common.root = root_.path();
  common.evasive_devices = true;
  common.cgroup_roots = cgroups_.roots();
  for (auto& mount : restored_mounts(config, node, cgroups_.paths())) common.external_mounts.push_back(std::move(mount));

  namespaces_ = TRY(restored_namespaces(config, [](const std::string& path) { return sys::openat(AT_FDCWD, path, O_RDONLY); }));
  engine::RestoreOptions& restore = settings.restore;
  restore.inherited.insert(restore.inherited.end(), namespaces_.inherited.begin(), namespaces_.inherited.end());
  restore.join_namespaces = namespaces_.joined;
  restore.as_sibling = true;
  const std::string file = format("{}/{}", image_path, kDescriptorsFile);
  if (const auto text = sys::read_file(AT_FDCWD, file))
    for (auto all = TRY(inherited_pipes(*text, file)); auto& pipe : all) restore.inherited.push_back(std::move(pipe));
  return {};
}

std::string Restoration::hook_state(const oci::Config& config, std::string_view status, pid_t pid) const {
  return oci::format_public_state({.oci_version = config.oci_version, .id = state_.id, .status = std::string(status),
                                   .pid = pid, .bundle = state_.bundle, .rootfs = {}, .created = {},
                                   .annotations = config.annotations});
}

Result<> Restoration::save(pid_t pid) {
  state_.pid = pid;
  state_.pid_start_ticks = TRY(start_ticks_of(pid));
  return directory_.save(state_);
}

Result<> Restoration::on_stage(const engine::Notification& stage, const oci::Config& config) {
  if (stage.stage == "setup-namespaces") {
    const std::string state = hook_state(config, "creating", stage.root_pid);
    hooks_ran_ = true;
    TRY(run_hooks("prestart", config.hooks.prestart, state, state_.bundle));
    return run_hooks("createRuntime", config.hooks.create_runtime, state, state_.bundle);
  }
  // From here on the pid is the container's: known before its tasks run again.
  if (stage.stage == "post-restore") return save(stage.root_pid);
  if (stage.stage == "orphan-pts-master") return take_terminal(stage.descriptor);
  return {};
}

Result<> Restoration::take_terminal(int master) {
  if (console_) return send_terminal(console_.get(), master);
  terminal_ = TRY(sys::duplicate(master));
  return {};
}

Result<pid_t> Restoration::run(const EngineApi& engine, const OciRestore& request, const Bundle& bundle,
                               SignalReader& signals) {
  Settings settings = TRY(settings_for(request, bundle.config, "restore.log"));
  settings.restore.lsm_profile = request.lsm_profile;
  settings.restore.lsm_mount_context = request.lsm_mount_context;
  TRY(describe(bundle.config, request.image_path, settings));
  const auto work = [&](const engine::Notify& notify) -> RestoreResult {
    if (auto entered = cgroups_.enter(); !entered) return std::unexpected(engine::Failures{{entered.error()}});
    Workplace place;
    if (auto errors = place.open(settings, true); !errors.empty()) return std::unexpected(engine::Failures{std::move(errors)});
    return run_restore(engine, settings, place, notify);
  };
  auto worker = TRY(RestoreWorker::start(work, signals));
  const pid_t pid = TRY(worker.serve([&](const engine::Notification& stage) { return on_stage(stage, bundle.config); }, signals));
  if (state_.pid != pid) TRY(save(pid));
  if (!request.pid_file.empty()) TRY(write_atomically(request.pid_file, std::to_string(pid), 0644));
  TRY(run_hooks("poststart", bundle.config.hooks.poststart, hook_state(bundle.config, "running", pid), state_.bundle));
  return pid;
}

void Restoration::end(const oci::Config& config, Log* log) {
  (void)kill_all_in(cgroups_.paths(), kDeathDeadline);
  NullLog nobody;
  if (hooks_ran_)
    run_hooks_to_the_end("poststop", config.hooks.poststop, hook_state(config, "stopped", 0), state_.bundle,
                         log ? *log : nobody);
}

Fd Restoration::keep() {
  directory_.keep();
  cgroups_.keep();
  return std::move(terminal_);
}

Result<int> stay_in_front(pid_t pid, Fd master, SignalReader& signals) {
  if (!master) return signals.forward_until_end(pid);
  Terminal terminal = TRY(Terminal::attach(std::move(master), STDIN_FILENO, STDOUT_FILENO));
  return signals.forward_until_end(pid, &terminal);
}

}  // namespace

Result<int> restore_container(const EngineApi& engine, const OciRestore& request) {
  TRY(oci::check_container_id(request.id));
  const Bundle bundle = TRY(read_bundle(request.bundle));
  TRY(check_terminal(request, bundle.config));
  if (!request.work_path.empty()) TRY(make_directories(request.work_path, 0700));
  SignalReader signals = TRY(SignalReader::start());
  pid_t pid = 0;
  Fd terminal;
  {
    Restoration restoration = TRY(Restoration::prepare(request, bundle));
    const auto restored = restoration.run(engine, request, bundle, signals);
    if (!restored) {
      restoration.end(bundle.config, request.log);
      return fail(restored.error());
    }
    pid = *restored;
    terminal = restoration.keep();
  }
  if (request.detach) return 0;
  const int status = TRY(stay_in_front(pid, std::move(terminal), signals));
  TRY(delete_container(request.roots, request.id, {.force = true, .log = request.log}));
  return status;
}

}  // namespace dormouse::shim
