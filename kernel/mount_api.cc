#include "kernel/mount_api.h"

#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/text.h"
#include "kernel/call.h"

namespace dormouse::sys {

Result<Fd> fsopen(Path type) {
  return new_fd("fsopen", [&] { return ::fsopen(type.c_str(), FSOPEN_CLOEXEC); });
}

std::string fs_context_messages(int context) {
  // Each read gives one message: a level letter, a blank, the text. ENODATA ends them.
  std::string all;
  char line[512];
  for (;;) {
    const ssize_t got = retry([&] { return ::read(context, line, sizeof line); });
    if (got <= 0) return all;
    std::string_view text = trim(std::string_view(line, static_cast<std::size_t>(got)));
    if (!consume_prefix(text, "e ")) continue;
    if (!all.empty()) all += "; ";
    all += text;
  }
}

namespace {
Result<> configure(int context, unsigned command, const char* key, const void* value, int aux) {
  const std::string operation = key ? std::string("fsconfig ") + key : "fsconfig";
  if (retry([&] { return ::fsconfig(context, command, key, value, aux); }) != -1) return {};
  Error error = Error::kernel(operation, errno);
  const std::string said = fs_context_messages(context);
  if (!said.empty()) error = std::move(error).during(said);
  return fail(std::move(error));
}
}  // namespace

Result<> fsconfig_flag(int context, Path key) {
  return configure(context, FSCONFIG_SET_FLAG, key.c_str(), nullptr, 0);
}
Result<> fsconfig_string(int context, Path key, Path value) {
  return configure(context, FSCONFIG_SET_STRING, key.c_str(), value.c_str(), 0);
}
Result<> fsconfig_fd(int context, Path key, int fd) {
  return configure(context, FSCONFIG_SET_FD, key.c_str(), nullptr, fd);
}
Result<> fsconfig_create(int context) {
  return configure(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0);
}
Result<> fsconfig_reconfigure(int context) {
  return configure(context, FSCONFIG_CMD_RECONFIGURE, nullptr, nullptr, 0);
}

Result<Fd> fsmount(int context, unsigned attributes) {
  return new_fd("fsmount", [&] { return ::fsmount(context, FSMOUNT_CLOEXEC, attributes); });
}
Result<Fd> fspick(int dir, Path path, unsigned flags) {
  const int fd = retry([&] { return ::fspick(dir, path.c_str(), flags | FSPICK_CLOEXEC); });
  if (fd == -1) return failed("fspick", path.c_str());
  return Fd(fd);
}
Result<Fd> open_tree(int dir, Path path, unsigned flags) {
  const int fd = retry([&] { return ::open_tree(dir, path.c_str(), flags | OPEN_TREE_CLOEXEC); });
  if (fd == -1) return failed("open_tree", path.c_str());
  return Fd(fd);
}
Result<> move_mount(int from_dir, Path from, int to_dir, Path to, unsigned flags) {
  return done_at("move_mount", to.c_str(), [&] {
    return ::move_mount(from_dir, from.c_str(), to_dir, to.c_str(), flags);
  });
}
Result<> mount_setattr(int dir, Path path, unsigned flags, const abi::MountAttr& attributes) {
  return done_at("mount_setattr", path.c_str(), [&] {
    return ::syscall(SYS_mount_setattr, dir, path.c_str(), flags, &attributes, sizeof attributes);
  });
}

Result<> mount(const char* source, Path target, const char* type, unsigned long flags,
               const char* data) {
  return done_at("mount", target.c_str(),
                 [&] { return ::mount(source, target.c_str(), type, flags, data); });
}
Result<> umount2(Path target, int flags) {
  return done_at("umount2", target.c_str(), [&] { return ::umount2(target.c_str(), flags); });
}
Result<> pivot_root(Path new_root, Path put_old) {
  return done_at("pivot_root", new_root.c_str(), [&] {
    return ::syscall(SYS_pivot_root, new_root.c_str(), put_old.c_str());
  });
}

}  // namespace dormouse::sys
