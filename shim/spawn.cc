#include "shim/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#include "base/defer.h"

namespace dormouse::shim {
namespace {

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> all;
  for (const std::string& word : words) all.push_back(const_cast<char*>(word.c_str()));
  all.push_back(nullptr);
  return all;
}

void set_files(const Program& program, posix_spawn_file_actions_t& files) {
  if (program.input >= 0)
    posix_spawn_file_actions_adddup2(&files, program.input, STDIN_FILENO);
  else
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  if (program.output >= 0) {
    posix_spawn_file_actions_adddup2(&files, program.output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, program.output, STDERR_FILENO);
  }
  // What the caller let us inherit is for the restored tasks, not for them.
  posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
  if (!program.directory.empty()) posix_spawn_file_actions_addchdir_np(&files, program.directory.c_str());
}

void set_signals(posix_spawnattr_t& attributes) {
  sigset_t none, pipe;
  sigemptyset(&none);
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &pipe);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

}  // namespace

Result<pid_t> spawn(const Program& program) {
  // posix_spawn shares our memory until the exec, so it costs the same however large we are.
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  Defer destroy_files([&] { posix_spawn_file_actions_destroy(&files); });
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  Defer destroy_attributes([&] { posix_spawnattr_destroy(&attributes); });
  set_files(program, files);
  set_signals(attributes);

  pid_t pid = 0;
  auto arguments = pointers(program.arguments);
  auto variables = pointers(program.environment);
  const int err =
      posix_spawn(&pid, program.path.c_str(), &files, &attributes, arguments.data(), variables.data());
  if (err) return fail(Error::kernel("exec", err));
  return pid;
}

}  // namespace dormouse::shim
