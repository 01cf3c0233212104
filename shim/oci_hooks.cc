#include "shim/oci_hooks.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/text.h"
#include "kernel/file.h"
#include "kernel/process.h"
#include "kernel/wait.h"
#include "shim/spawn.h"

namespace dormouse::shim {
namespace {

// A file instead of a pipe: nobody has to read or write while the hook runs, and a hook that leaves
// its stdin alone, or a daemon that keeps its stdout open, holds nobody up.
Result<Fd> file_with(std::string_view text) {
  Fd file = TRY(sys::memfd_create("hook"));
  TRY(sys::write_all(file.get(), text));
  TRY(sys::lseek(file.get(), 0, SEEK_SET));
  return file;
}

std::vector<std::string> own_environment() {
  std::vector<std::string> all;
  for (char** variable = environ; *variable; ++variable) all.emplace_back(*variable);
  return all;
}

std::string last_line(int output) {
  if (!sys::lseek(output, 0, SEEK_SET)) return {};
  const auto text = sys::read_all(output);
  if (!text) return {};
  const std::string_view trimmed = trim(*text);
  const auto line = trimmed.rfind('\n');
  return std::string(line == std::string_view::npos ? trimmed : trimmed.substr(line + 1));
}

// Waits for the end of the hook, which is ours to reap either way.
Result<> wait_for_hook(pid_t pid, const oci::Hook& hook) {
  if (hook.timeout) {
    const Fd pidfd = TRY(sys::pidfd_open(pid));
    if (!TRY(sys::wait_for(pidfd.get(), POLLIN, sys::Deadline::in(*hook.timeout)))) {
      (void)sys::pidfd_send_signal(pidfd.get(), SIGKILL);
      TRY(sys::waitid(P_PID, static_cast<id_t>(pid), WEXITED));
      return fail(Error::conflict(format("did not end within {} s", hook.timeout->count()), ETIMEDOUT));
    }
  }
  const auto end = TRY(sys::waitid(P_PID, static_cast<id_t>(pid), WEXITED));
  if (end->code == CLD_EXITED && end->status == 0) return {};
  return fail(Error::conflict(end->code == CLD_EXITED ? format("exited with status {}", end->status)
                                                      : format("killed by signal {}", end->status),
                              ECANCELED));
}

Result<> run_hook(const oci::Hook& hook, const std::string& state, const std::string& bundle) {
  const Fd input = TRY(file_with(state));
  const Fd output = TRY(file_with(""));
  const pid_t pid = TRY(spawn({.path = hook.path,
                               .arguments = hook.args.empty() ? std::vector{hook.path} : hook.args,
                               .environment = hook.env.empty() ? own_environment() : hook.env,
                               .directory = bundle,
                               .input = input.get(),
                               .output = output.get()}));
  const auto ended = wait_for_hook(pid, hook);
  if (ended) return {};
  const std::string said = last_line(output.get());
  Error error = ended.error();
  return fail(said.empty() ? error : std::move(error).remedy(format("it said: {}", said)));
}

Result<> run_named(std::string_view kind, const oci::Hook& hook, const std::string& state, const std::string& bundle) {
  TRY_OR(run_hook(hook, state, bundle), std::move(e).object(format("{} hook {}", kind, hook.path)));
  return {};
}

}  // namespace

Result<> run_hooks(std::string_view kind, std::span<const oci::Hook> hooks, const std::string& state,
                   const std::string& bundle) {
  for (const auto& hook : hooks) TRY(run_named(kind, hook, state, bundle));
  return {};
}

void run_hooks_to_the_end(std::string_view kind, std::span<const oci::Hook> hooks, const std::string& state,
                          const std::string& bundle, Log& log) {
  for (const auto& hook : hooks)
    if (const auto ran = run_named(kind, hook, state, bundle); !ran) log.warn("{}", ran.error().message());
}

}  // namespace dormouse::shim
