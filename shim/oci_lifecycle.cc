#include "shim/oci_lifecycle.h"

#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <cstring>

#include "base/format.h"
#include "base/text.h"
#include "kernel/process.h"
#include "kernel/wait.h"
#include "shim/oci_hooks.h"
#include "shim/oci_store.h"

namespace dormouse::shim {
namespace {

constexpr std::chrono::seconds kDeathDeadline{10};

Result<Container> find_own(const std::vector<std::string>& roots, const std::string& id, std::string_view command) {
  Container container = TRY(find_container(roots, id));
  if (container.ours) return container;
  return fail(Error::unsupported("belongs to runc").object("container " + id).remedy(format("use `runc {}`", command)));
}

// With its pid namespace gone, init is the last of the container; without one of its own, or if the
// restore did not get that far, the cgroups know who is left.
Result<> end_processes(const Container& container) {
  if (const auto init = open_if_alive(container.init)) {
    (void)sys::pidfd_send_signal(init->get(), SIGKILL);
    TRY(thaw(container.cgroup_paths));
    if (!TRY(sys::wait_for(init->get(), POLLIN, sys::Deadline::in(kDeathDeadline))))
      return fail(Error::conflict("does not die", EBUSY).object(format("init process {}", container.init.pid)));
  }
  return kill_all_in(container.cgroup_paths, kDeathDeadline);
}

}  // namespace

Result<std::string> container_state(const std::vector<std::string>& roots, const std::string& id) {
  return oci::format_public_state(TRY(find_container(roots, id)).public_state());
}

Result<int> parse_signal(const std::string& text) {
  if (const auto number = parse_number<int>(text); number && *number > 0 && *number <= SIGRTMAX) return *number;
  std::string name = text;
  std::ranges::transform(name, name.begin(), [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
  if (name.starts_with("SIG")) name.erase(0, 3);
  for (int signal = 1; signal < NSIG; ++signal)
    if (const char* known = ::sigabbrev_np(signal); known && name == known) return signal;
  return fail(Error::bad_option("is not known").object(format("signal {}", text)).remedy("a name as TERM, or a number"));
}

Result<> kill_container(const std::vector<std::string>& roots, const std::string& id, const std::string& signal,
                        bool all) {
  const int number = TRY(parse_signal(signal));
  const Container container = TRY(find_own(roots, id, "kill"));
  const auto init = open_if_alive(container.init);
  if (!init && !all)
    return fail(Error::conflict(format("is {}", container.status()), ESRCH).object("container " + id).remedy("it has nothing to kill"));
  if (all) {
    for (const auto members = TRY(processes_in(container.cgroup_paths)); const pid_t pid : members)
      if (const auto pidfd = sys::pidfd_open(pid)) (void)sys::pidfd_send_signal(pidfd->get(), number);
  } else {
    TRY(sys::pidfd_send_signal(init->get(), number));
  }
  // A frozen task does not even die.
  return number == SIGKILL ? thaw(container.cgroup_paths) : Result<>{};
}

Result<> delete_container(const std::vector<std::string>& roots, const std::string& id, const DeleteOptions& options) {
  if (options.force && !TRY(look_up_container(roots, id))) return {};
  const Container container = TRY(find_own(roots, id, "delete"));
  const std::string status = container.status();
  if (status != "stopped" && !options.force)
    return fail(Error::conflict(format("is {}", status), EBUSY).object("container " + id).remedy("kill it first, or use --force"));
  TRY(end_processes(container));
  TRY(remove_cgroups(container.cgroup_paths));
  StateDirectory::remove(container.directory);
  auto state = container.public_state();
  state.status = "stopped";
  state.pid = 0;
  NullLog nobody;
  run_hooks_to_the_end("poststop", container.config.hooks.poststop, oci::format_public_state(state),
                       container.bundle, options.log ? *options.log : nobody);
  return {};
}

}  // namespace dormouse::shim
