#include "engine/task/security_label.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/syscall.h>

#include <span>

#include "base/format.h"
#include "base/text.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

std::string_view name_of(SecurityModule module) {
  switch (module) {
    case SecurityModule::kNone: return "no security module";
    case SecurityModule::kSelinux: return "SELinux";
    case SecurityModule::kApparmor: return "AppArmor";
  }
  return "?";
}

}  // namespace

SecurityModule security_module() {
  const Result<std::string> apparmor = sys::read_file(AT_FDCWD, "/sys/module/apparmor/parameters/enabled");
  if (apparmor && trim(*apparmor) == "Y") return SecurityModule::kApparmor;
  if (sys::faccessat(AT_FDCWD, "/sys/fs/selinux/enforce", F_OK)) return SecurityModule::kSelinux;
  return SecurityModule::kNone;
}

std::string label_of(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\0')) text.remove_suffix(1);
  if (const auto mode = text.find(" ("); mode != std::string_view::npos) text = text.substr(0, mode);
  return text == "unconfined" ? std::string() : std::string(text);
}

Result<std::string> label_to_restore(SecurityModule here, SecurityModule saved_by, std::string_view saved,
                                     std::string_view option) {
  SecurityModule wanted = saved_by;
  if (option == "none") return std::string();
  if (!option.empty()) {
    const std::string_view type = take_until(option, ':');
    if (type == "apparmor") wanted = SecurityModule::kApparmor;
    else if (type == "selinux") wanted = SecurityModule::kSelinux;
    else return fail(Error::bad_option(format("there is no security module '{}'", type)).object("--lsm-profile"));
    saved = option;
  }
  if (saved.empty()) return std::string();
  if (wanted != here)
    return fail(Error::unsupported(format("this node has {}, not {}", name_of(here), name_of(wanted)))
                    .object(format("security label '{}'", saved))
                    .remedy("choose another one with --lsm-profile, or --lsm-profile=none"));
  return std::string(saved);
}

LabelFile append_label_file(parasite::Program& program) {
  const std::string why = "a proc file system for the security label";
  LabelFile file;
  file.file_system = program.call(why, SYS_fsopen, {program.text("proc"), FSOPEN_CLOEXEC});
  program.call(why, SYS_fsconfig, {file.file_system, FSCONFIG_CMD_CREATE, 0, 0, 0});
  file.mount = program.call(why, SYS_fsmount, {file.file_system, FSMOUNT_CLOEXEC, 0});
  file.attribute = program.call("the thread's security label", SYS_openat,
                                {file.mount, program.text("thread-self/attr/current"), O_WRONLY | O_CLOEXEC});
  return file;
}

void append_label(parasite::Program& program, const LabelFile& file, SecurityModule here, const std::string& label) {
  const std::string text = here == SecurityModule::kApparmor ? "changeprofile " + label : label;
  const auto bytes = std::as_bytes(std::span(text));
  program.call(format("security label '{}'", label), SYS_write,
               {file.attribute, program.data(bytes), bytes.size()});
  for (const auto descriptor : {file.attribute, file.mount, file.file_system})
    program.call("", SYS_close, {descriptor});
}

}  // namespace dormouse::engine
