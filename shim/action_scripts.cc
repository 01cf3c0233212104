#include "shim/action_scripts.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/defer.h"
#include "kernel/process.h"

namespace dormouse::shim {
namespace {

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> all;
  for (const std::string& word : words) all.push_back(const_cast<char*>(word.c_str()));
  all.push_back(nullptr);
  return all;
}

// Starts `words` with `output` as stdout and stderr. posix_spawn shares our memory until the exec,
// so it costs the same however large we are.
Result<pid_t> spawn(const std::vector<std::string>& words,
                    const std::vector<std::string>& environment, int output) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  Defer destroy_files([&] { posix_spawn_file_actions_destroy(&files); });
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  if (output >= 0) {
    posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, output, STDERR_FILENO);
  }
  // What the caller let us inherit is for the restored tasks, not for scripts.
  posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);

  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  Defer destroy_attributes([&] { posix_spawnattr_destroy(&attributes); });
  sigset_t none, pipe;
  sigemptyset(&none);
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &pipe);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  pid_t pid = 0;
  auto arguments = pointers(words);
  auto variables = pointers(environment);
  const int err =
      posix_spawnp(&pid, arguments[0], &files, &attributes, arguments.data(), variables.data());
  if (err) return fail(Error::kernel("exec", err));
  return pid;
}

Result<> run_script(const std::string& script, const std::vector<std::string>& environment,
                    int output) {
  auto pid = spawn({script}, environment, output);
  // A script without an interpreter line is the shell's.
  if (!pid && pid.error().is_kernel(ENOEXEC)) pid = spawn({"/bin/sh", script}, environment, output);
  if (!pid) return fail(std::move(pid).error());
  const auto end = TRY(sys::waitid(P_PID, static_cast<id_t>(*pid), WEXITED));
  if (end->code == CLD_EXITED && end->status == 0) return {};
  return fail(Error::conflict(end->code == CLD_EXITED ? format("exited with status {}", end->status)
                                                      : format("killed by signal {}", end->status),
                              ECANCELED));
}

}  // namespace

std::vector<std::string> ActionScripts::environment(const std::string& stage) const {
  std::vector<std::string> all;
  for (char** variable = environ; *variable; ++variable) {
    const std::string_view text = *variable;
    if (!text.starts_with("CRTOOLS_") && !text.starts_with("CRTOOL_")) all.emplace_back(text);
  }
  all.push_back("CRTOOLS_SCRIPT_ACTION=" + stage);
  // The first manual's spelling, for the two stages that it had.
  if (stage.starts_with("network-")) all.push_back("CRTOOL_SCRIPT_ACTION=" + stage);
  all.push_back(format("CRTOOLS_IMAGE_DIR=/proc/{}/fd/{}", ::getpid(), images_dir_));
  if (root_pid_ > 0) all.push_back(format("CRTOOLS_INIT_PID={}", root_pid_));
  return all;
}

Result<> ActionScripts::run(const engine::Notification& stage) {
  if (stage.root_pid > 0) root_pid_ = stage.root_pid;
  // Both are questions to an RPC client that a script has no way to answer.
  if (stage.stage == "query-ext-files" || stage.stage == "orphan-pts-master") return {};

  const auto variables = environment(stage.stage);
  Result<> outcome;
  for (const std::string& script : scripts_) {
    log_.debug("running action script {} for {}", script, stage.stage);
    log_.flush();
    auto ran = run_script(script, variables, log_.fd());
    if (!ran && outcome)
      outcome = fail(std::move(ran).error().object(
          format("action script {} at stage {}", script, stage.stage)));
  }
  return outcome;
}

}  // namespace dormouse::shim
