#include "engine/task/audit.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/syscall.h>

#include "base/format.h"
#include "base/text.h"
#include "kernel/file.h"

namespace dormouse::engine {

std::uint32_t own_login_uid() {
  const Result<std::string> text = sys::read_file(AT_FDCWD, "/proc/self/loginuid");
  return text ? parse_number<std::uint32_t>(trim(*text)).value_or(kNoLoginUid) : kNoLoginUid;
}

void append_login_uid(parasite::Program& program, std::uint32_t wanted, std::uint32_t own) {
  if (wanted == own) return;
  const auto attempt = [&](long number, std::initializer_list<parasite::Value> args) {
    return program.call("login id", number, args, parasite::anything());
  };
  // There may be no /proc where it lives.
  const auto file_system = attempt(SYS_fsopen, {program.text("proc"), FSOPEN_CLOEXEC});
  attempt(SYS_fsconfig, {file_system, FSCONFIG_CMD_CREATE, 0, 0, 0});
  const auto mount = attempt(SYS_fsmount, {file_system, FSMOUNT_CLOEXEC, 0});
  const auto file = attempt(SYS_openat, {mount, program.text("thread-self/loginuid"), O_WRONLY | O_CLOEXEC});
  const std::string text = format("{}", wanted);
  attempt(SYS_write, {file, program.text(text), text.size()});
  for (const auto descriptor : {file, mount, file_system}) attempt(SYS_close, {descriptor});
}

}  // namespace dormouse::engine
