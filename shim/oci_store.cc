#include "shim/oci_store.h"

#include <sys/stat.h>

#include "kernel/file.h"
#include "kernel/proc/directory.h"
#include "kernel/process.h"
#include "shim/oci_rootfs.h"

namespace dormouse::shim {
namespace {

// Each is written by us or by runc, and by the bundle's author: a small text.
Result<std::string> read_text(const std::string& path) {
  const Fd file = TRY(sys::openat(AT_FDCWD, path, O_RDONLY | O_NOFOLLOW));
  return sys::read_all(file.get());
}

Result<Container> from_own_state(const std::string& directory, std::string_view text, const std::string& file) {
  oci::State state = TRY(oci::parse_state(text, file));
  Container container{.id = state.id, .directory = directory, .ours = true, .init = {state.pid, state.pid_start_ticks},
                      .bundle = state.bundle, .created = state.created, .cgroup_paths = state.cgroup_paths,
                      .external_descriptors = state.external_descriptors, .config = {}};
  const std::string config_file = directory + "/config.json";
  const std::string config_text = TRY(read_text(config_file));
  container.config = TRY(oci::parse_config(config_text, config_file, state.bundle));
  return container;
}

Result<Container> from_runc_state(const std::string& directory, std::string_view text, const std::string& file) {
  oci::RuncState state = TRY(oci::parse_runc_state(text, file));
  return Container{.id = state.id, .directory = directory, .ours = false, .init = {state.init_pid, state.init_start_ticks},
                   .bundle = state.bundle, .created = state.created, .cgroup_paths = state.cgroup_paths,
                   .external_descriptors = state.external_descriptors, .config = std::move(state.config)};
}

bool exists(const std::string& path) { return sys::faccessat(AT_FDCWD, path, F_OK).has_value(); }

}  // namespace

Result<std::uint64_t> start_ticks_of(pid_t pid) {
  const auto directory = TRY(proc::ProcDir::open(pid));
  return TRY(directory.stat()).start_time_ticks;
}

std::optional<Fd> open_if_alive(const InitProcess& init) {
  if (init.pid <= 0) return std::nullopt;
  // First the handle, then the question whom it holds: the other way round the pid could change hands.
  auto pidfd = sys::pidfd_open(init.pid);
  if (!pidfd) return std::nullopt;
  const auto directory = proc::ProcDir::open(init.pid);
  if (!directory) return std::nullopt;
  const auto stat = directory->stat();
  if (!stat || stat->start_time_ticks != init.start_ticks || stat->state == 'Z' || stat->state == 'X')
    return std::nullopt;
  return std::move(*pidfd);
}

std::string Container::status() const {
  if (ours && init.pid == 0) return "creating";
  if (!alive()) return "stopped";
  // runc's init waits behind this fifo until `runc start`.
  if (!ours && exists(directory + "/exec.fifo")) return "created";
  return is_frozen(cgroup_paths) ? "paused" : "running";
}

oci::PublicState Container::public_state() const {
  oci::PublicState state{.oci_version = config.oci_version, .id = id, .status = status(), .pid = init.pid,
                         .bundle = bundle, .rootfs = config.rootfs, .created = created, .annotations = config.annotations};
  if (state.status == "stopped") state.pid = 0;
  return state;
}

Result<std::optional<Container>> look_up_container(const std::vector<std::string>& roots, const std::string& id) {
  TRY(oci::check_container_id(id));
  for (const auto& root : roots) {
    const std::string directory = format("{}/{}", root, id);
    const std::string file = directory + "/state.json";
    const auto text = read_text(file);
    if (!text && text.error().is_kernel(ENOENT)) continue;
    if (!text) return fail(Error(text.error()).object(file));
    return TRY(oci::is_own_state(*text) ? from_own_state(directory, *text, file) : from_runc_state(directory, *text, file));
  }
  return std::nullopt;
}

Result<Container> find_container(const std::vector<std::string>& roots, const std::string& id) {
  auto found = TRY(look_up_container(roots, id));
  if (found) return *std::move(found);
  std::string searched;
  for (const auto& root : roots) searched += searched.empty() ? root : " and " + root;
  return fail(Error::bad_option(format("there is none of this name in {}", searched))
                  .object(format("container {}", id))
                  .remedy("--root names the directory with the runtime's states"));
}

Result<StateDirectory> StateDirectory::create(const std::string& root, const std::string& id,
                                              const std::string& config_text) {
  TRY(oci::check_container_id(id));
  const auto made_root = sys::mkdirat(AT_FDCWD, root, 0700);
  if (!made_root && !made_root.error().is_kernel(EEXIST)) return fail(Error(made_root.error()).object("state directory " + root));
  const std::string path = format("{}/{}", root, id);
  auto made = sys::mkdirat(AT_FDCWD, path, 0711);
  if (!made && made.error().is_kernel(EEXIST))
    return fail(Error::conflict(format("exists already in {}", root), EEXIST)
                    .object("container " + id)
                    .remedy("choose another id, or `delete` it first"));
  if (!made) return fail(std::move(made).error().object("state directory " + path));
  StateDirectory directory(path);
  TRY(write_atomically(path + "/config.json", config_text, 0600));
  return directory;
}

StateDirectory::~StateDirectory() {
  if (!path_.empty()) remove(path_);
}

Result<> StateDirectory::save(const oci::State& state) const {
  const std::string text = oci::format_state(state);
  // A path that is no UTF-8 cannot be kept in JSON; better told now than at the container's end.
  const auto read_back = oci::parse_state(text, "state.json");
  if (!read_back || !(*read_back == state))
    return fail(Error::bad_option("cannot be written as UTF-8").object("bundle path " + state.bundle));
  return write_atomically(path_ + "/state.json", text, 0600);
}

void StateDirectory::remove(const std::string& path) noexcept {
  RootMount::remove(root_mount_path(path));
  for (const char* name : {"/state.json", "/config.json"}) (void)sys::unlinkat(AT_FDCWD, path + name);
  (void)sys::unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

std::string root_mount_path(const std::string& state_directory) { return state_directory + "/criu-root"; }

Result<> write_atomically(const std::string& path, std::string_view text, mode_t mode) {
  const auto slash = path.rfind('/') + 1;  // 0 for a bare name
  const std::string temporary = format("{}.{}.new", path.substr(0, slash), path.substr(slash));
  const Fd file = TRY_OR(sys::openat(AT_FDCWD, temporary, O_CREAT | O_TRUNC | O_WRONLY | O_NOFOLLOW, mode),
                         std::move(e).object(path));
  TRY_OR(sys::write_all(file.get(), text), std::move(e).object(path));
  TRY_OR(sys::renameat(AT_FDCWD, temporary, AT_FDCWD, path), std::move(e).object(path));
  return {};
}

}  // namespace dormouse::shim
