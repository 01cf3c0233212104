#include "kernel/userfaultfd.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "kernel/abi.h"
#include "kernel/file.h"

namespace dormouse::sys {

Result<> userfaultfd_begin_async(int fd) {
  ::uffdio_api api{};
  api.api = UFFD_API;
  api.features = abi::kUffdFeatureWpAsync | abi::kUffdFeatureWpUnpopulated;
  TRY(sys::ioctl(fd, UFFDIO_API, &api));
  return {};
}

Result<> userfaultfd_register(int fd, std::uint64_t start, std::uint64_t end) {
  ::uffdio_register range{};
  range.range = {start, end - start};
  range.mode = UFFDIO_REGISTER_MODE_WP;
  TRY(sys::ioctl(fd, UFFDIO_REGISTER, &range));
  return {};
}

Result<> userfaultfd_unprotect(int fd, std::uint64_t start, std::uint64_t end) {
  ::uffdio_writeprotect range{};
  range.range = {start, end - start};
  TRY(sys::ioctl(fd, UFFDIO_WRITEPROTECT, &range));
  return {};
}

Result<Fd> userfaultfd_for_filling(std::uint64_t start, std::uint64_t end) {
  const long number = ::syscall(SYS_userfaultfd, O_CLOEXEC | kUserfaultfdUserModeOnly);
  if (number == -1) return fail(Error::kernel("userfaultfd", errno));
  Fd fd(static_cast<int>(number));
  ::uffdio_api api{};
  api.api = UFFD_API;
  TRY(sys::ioctl(fd.get(), UFFDIO_API, &api));
  ::uffdio_register range{};
  range.range = {start, end - start};
  range.mode = UFFDIO_REGISTER_MODE_MISSING;
  TRY(sys::ioctl(fd.get(), UFFDIO_REGISTER, &range));
  return fd;
}

}  // namespace dormouse::sys
