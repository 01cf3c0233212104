#include "kernel/probes.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>

#include "base/format.h"
#include "kernel/file.h"
#include "kernel/mount_api.h"
#include "kernel/proc/directory.h"
#include "kernel/process.h"

namespace dormouse::sys::probes {

namespace {
Result<proc::FdInfo> own_fdinfo(int fd) { return TRY(proc::ProcDir::self()).fdinfo(fd); }
}  // namespace

bool mount_id() {
  const auto self = proc::ProcDir::self();
  if (!self) return false;
  const auto info = self->fdinfo(self->fd());
  return info && info->mount_id != 0;
}

bool fdinfo_lock() {
  const auto file = sys::memfd_create("probe");
  if (!file || !sys::flock(file->get(), LOCK_EX | LOCK_NB)) return false;
  const auto info = own_fdinfo(file->get());
  return info && info->value("lock");
}

bool timerfd() {
  const Fd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  if (!timer) return false;
  const auto info = own_fdinfo(timer.get());
  return info && info->value("clockid") && info->value("it_value");
}

bool openat2() { return sys::openat2(AT_FDCWD, "/", O_PATH, RESOLVE_IN_ROOT).has_value(); }

bool move_mount() {
  return sys::fsopen("tmpfs").has_value() && sys::open_tree(AT_FDCWD, "/", 0).has_value();
}
bool move_mount_set_group() {
  // Flags are judged before paths: an unknown one is EINVAL, the empty path ENOENT.
  const auto refused = sys::move_mount(AT_FDCWD, "", AT_FDCWD, "", abi::kMoveMountSetGroup);
  return !refused && refused.error().is_kernel(ENOENT);
}
bool mount_setattr() {
  const auto refused = sys::mount_setattr(-1, "", 0, {});
  return refused || !refused.error().is_kernel(ENOSYS);
}

bool autofs() { return sys::fsopen("autofs").has_value(); }

bool overlay_maps() {
  // A mount that is attached nowhere: nobody sees it, and it goes with its descriptor.
  const auto mounted = [](const char* type, auto&& configure) -> Result<Fd> {
    const Fd context = TRY(sys::fsopen(type));
    TRY(configure(context.get()));
    TRY(sys::fsconfig_create(context.get()));
    return sys::fsmount(context.get());
  };
  const auto same = [&]() -> Result<bool> {
    const Fd below = TRY(mounted("tmpfs", [](int) -> Result<> { return {}; }));
    TRY(sys::mkdirat(below.get(), "lower", 0700));
    TRY(sys::mkdirat(below.get(), "empty", 0700));
    {
      const Fd file = TRY(sys::openat(below.get(), "lower/file", O_CREAT | O_WRONLY, 0600));
      TRY(sys::write_all(file.get(), "x"));
    }
    const std::string layers = format("/proc/self/fd/{0}/lower:/proc/self/fd/{0}/empty", below.get());
    const Fd overlay = TRY(mounted("overlay", [&](int context) {
      return sys::fsconfig_string(context, "lowerdir", layers);
    }));
    const Fd file = TRY(sys::openat(overlay.get(), "file", O_RDONLY));
    const auto mapping = TRY(Mapping::map(file.get(), 1, PROT_READ, MAP_PRIVATE));
    const auto st = TRY(sys::fstat(file.get()));
    const auto self = TRY(proc::ProcDir::self());
    for (const auto all = TRY(self.maps()); const auto& vma : all)
      if (vma.start == reinterpret_cast<std::uintptr_t>(mapping.data()))
        return vma.inode == st.st_ino && vma.device_minor == minor(st.st_dev);
    return false;
  }();
  return same && *same;
}

}  // namespace dormouse::sys::probes
