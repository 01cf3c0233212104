#include "kernel/file.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "kernel/call.h"

namespace dormouse::sys {

// --- opening and making -------------------------------------------------------------------------

Result<Fd> openat(int dir, Path path, int flags, mode_t mode) {
  const int fd = retry([&] { return ::openat(dir, path.c_str(), flags | O_CLOEXEC, mode); });
  if (fd == -1) return failed("openat", path.c_str());
  return Fd(fd);
}

Result<Fd> openat2(int dir, Path path, std::uint64_t flags, std::uint64_t resolve, mode_t mode) {
  open_how how{};
  how.flags = flags | O_CLOEXEC;
  how.mode = mode;
  how.resolve = resolve;
  const long fd =
      retry([&] { return ::syscall(SYS_openat2, dir, path.c_str(), &how, sizeof how); });
  if (fd == -1) return failed("openat2", path.c_str());
  return Fd(static_cast<int>(fd));
}

Result<Fd> open_by_handle_at(int mount, int type, std::span<const std::uint8_t> handle, int flags) {
  if (handle.size() > MAX_HANDLE_SZ) return fail(Error::kernel("open_by_handle_at", EINVAL));
  alignas(::file_handle) std::byte buffer[sizeof(::file_handle) + MAX_HANDLE_SZ]{};
  auto* const raw = reinterpret_cast<::file_handle*>(buffer);
  raw->handle_bytes = static_cast<unsigned>(handle.size());
  raw->handle_type = type;
  std::ranges::copy(handle, raw->f_handle);
  return new_fd("open_by_handle_at", [&] { return ::open_by_handle_at(mount, raw, flags | O_CLOEXEC); });
}
Result<> mkdirat(int dir, Path path, mode_t mode) {
  return done_at("mkdirat", path.c_str(), [&] { return ::mkdirat(dir, path.c_str(), mode); });
}
Result<> mknodat(int dir, Path path, mode_t mode, dev_t device) {
  return done_at("mknodat", path.c_str(), [&] { return ::mknodat(dir, path.c_str(), mode, device); });
}
Result<> symlinkat(Path target, int dir, Path path) {
  return done_at("symlinkat", path.c_str(),
                 [&] { return ::symlinkat(target.c_str(), dir, path.c_str()); });
}
Result<> linkat(int from_dir, Path from, int to_dir, Path to, int flags) {
  return done_at("linkat", to.c_str(),
                 [&] { return ::linkat(from_dir, from.c_str(), to_dir, to.c_str(), flags); });
}
Result<> unlinkat(int dir, Path path, int flags) {
  return done_at("unlinkat", path.c_str(), [&] { return ::unlinkat(dir, path.c_str(), flags); });
}
Result<> renameat(int from_dir, Path from, int to_dir, Path to, unsigned flags) {
  return done_at("renameat2", from.c_str(),
                 [&] { return ::renameat2(from_dir, from.c_str(), to_dir, to.c_str(), flags); });
}

// --- reading and writing ------------------------------------------------------------------------

namespace {
Result<std::size_t> count(std::string_view operation, ssize_t bytes) {
  if (bytes == -1) [[unlikely]] return failed(operation);
  return static_cast<std::size_t>(bytes);
}
}  // namespace

Result<std::size_t> read(int fd, std::span<std::byte> to) {
  return count("read", retry([&] { return ::read(fd, to.data(), to.size()); }));
}
Result<std::size_t> pread(int fd, std::span<std::byte> to, std::uint64_t offset) {
  return count("pread", retry([&] {
                 return ::pread(fd, to.data(), to.size(), static_cast<off_t>(offset));
               }));
}
Result<std::size_t> write(int fd, std::span<const std::byte> from) {
  return count("write", retry([&] { return ::write(fd, from.data(), from.size()); }));
}
Result<std::size_t> pwrite(int fd, std::span<const std::byte> from, std::uint64_t offset) {
  return count("pwrite", retry([&] {
                 return ::pwrite(fd, from.data(), from.size(), static_cast<off_t>(offset));
               }));
}

Result<> read_exactly(int fd, std::span<std::byte> to) {
  while (!to.empty()) {
    const std::size_t got = TRY(sys::read(fd, to));
    if (got == 0) return fail(Error::kernel("read: end of file", ENODATA));
    to = to.subspan(got);
  }
  return {};
}
Result<> pread_exactly(int fd, std::span<std::byte> to, std::uint64_t offset) {
  while (!to.empty()) {
    const std::size_t got = TRY(sys::pread(fd, to, offset));
    if (got == 0) return fail(Error::kernel("pread: end of file", ENODATA));
    to = to.subspan(got);
    offset += got;
  }
  return {};
}
Result<> write_all(int fd, std::span<const std::byte> from) {
  while (!from.empty()) from = from.subspan(TRY(sys::write(fd, from)));
  return {};
}
Result<> write_all(int fd, std::string_view text) {
  return write_all(fd, std::as_bytes(std::span(text.data(), text.size())));
}
Result<> pwrite_all(int fd, std::span<const std::byte> from, std::uint64_t offset) {
  while (!from.empty()) {
    const std::size_t put = TRY(sys::pwrite(fd, from, offset));
    from = from.subspan(put);
    offset += put;
  }
  return {};
}

Result<std::string> read_all(int fd) {
  // Files of the kernel say size 0, and most of them fit one page: what is read of them needs no more room than it has.
  std::array<char, 4096> page;
  std::string text;
  while (text.size() < page.size()) {
    const std::size_t got = TRY(sys::read(fd, std::as_writable_bytes(std::span(page))));
    if (got == 0) return text;
    text.append(page.data(), got);
  }
  // maps and smaps grow from there. The string grows by its own size, so that a megabyte of maps takes few calls.
  std::size_t used = text.size();
  for (;;) {
    if (used == text.size()) text.resize(used * 2);
    const std::size_t got =
        TRY(sys::read(fd, std::as_writable_bytes(std::span(text)).subspan(used)));
    if (got == 0) break;
    used += got;
  }
  text.resize(used);
  return text;
}

Result<std::string> read_file(int dir, Path path) {
  const Fd fd = TRY(sys::openat(dir, path, O_RDONLY));
  return TRY_OR(read_all(fd.get()), std::move(e).during(path.c_str()));
}

Result<> write_file(int dir, Path path, std::string_view text) {
  const Fd fd = TRY(sys::openat(dir, path, O_WRONLY));
  const ssize_t put = retry([&] { return ::write(fd.get(), text.data(), text.size()); });
  if (put == -1) return failed("write", path.c_str());
  if (static_cast<std::size_t>(put) != text.size()) {
    errno = EMSGSIZE;  // the rest in a second write would mean something else to the kernel
    return failed("write", path.c_str());
  }
  return {};
}

Result<std::uint64_t> lseek(int fd, std::int64_t offset, int whence) {
  const off_t at = ::lseek(fd, offset, whence);
  if (at == -1) return failed("lseek");
  return static_cast<std::uint64_t>(at);
}
Result<> fsync(int fd) {
  return done("fsync", [&] { return ::fsync(fd); });
}

// --- asking -------------------------------------------------------------------------------------

Result<struct ::stat> fstat(int fd) {
  struct ::stat st{};
  TRY(done("fstat", [&] { return ::fstat(fd, &st); }));
  return st;
}
Result<struct ::stat> fstatat(int dir, Path path, int flags) {
  struct ::stat st{};
  TRY(done_at("fstatat", path.c_str(), [&] { return ::fstatat(dir, path.c_str(), &st, flags); }));
  return st;
}
Result<struct ::statx> statx(int dir, Path path, int flags, unsigned mask) {
  struct ::statx st{};
  TRY(done_at("statx", path.c_str(), [&] { return ::statx(dir, path.c_str(), flags, mask, &st); }));
  return st;
}
Result<std::uint64_t> mount_id(int fd) {
  constexpr unsigned kMountId = 0x1000;  // STATX_MNT_ID
  const auto st = TRY(sys::statx(fd, "", AT_EMPTY_PATH, kMountId));
  if (!(st.stx_mask & kMountId)) {
    errno = EOPNOTSUPP;
    return failed("statx: mount id");
  }
  return st.stx_mnt_id;
}
Result<struct ::statfs> fstatfs(int fd) {
  struct ::statfs st{};
  TRY(done("fstatfs", [&] { return ::fstatfs(fd, &st); }));
  return st;
}
Result<struct ::statfs> statfs(Path path) {
  struct ::statfs st{};
  TRY(done_at("statfs", path.c_str(), [&] { return ::statfs(path.c_str(), &st); }));
  return st;
}

Result<std::string> readlinkat(int dir, Path path) {
  // The links of /proc say size 0, so the answer's own length is the only hint.
  std::string target(256, '\0');
  for (;;) {
    const ssize_t got = ::readlinkat(dir, path.c_str(), target.data(), target.size());
    if (got == -1) return failed("readlinkat", path.c_str());
    if (static_cast<std::size_t>(got) < target.size()) {
      target.resize(static_cast<std::size_t>(got));
      return target;
    }
    target.resize(target.size() * 4);
  }
}

Result<> faccessat(int dir, Path path, int mode, int flags) {
  return done_at("faccessat", path.c_str(),
                 [&] { return ::faccessat(dir, path.c_str(), mode, flags); });
}

Result<std::vector<DirectoryEntry>> list_directory(int fd) {
  std::vector<DirectoryEntry> entries;
  alignas(::dirent64) std::byte buffer[32768];
  for (;;) {
    const ssize_t got = retry([&] { return ::getdents64(fd, buffer, sizeof buffer); });
    if (got == -1) return failed("getdents64");
    if (got == 0) return entries;
    for (ssize_t at = 0; at < got;) {
      const auto* entry = reinterpret_cast<const ::dirent64*>(buffer + at);
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..")
        entries.push_back({std::string(name), entry->d_ino, entry->d_type});
      at += entry->d_reclen;
    }
  }
}

Result<std::vector<DirectoryEntry>> list_directory(int dir, Path path) {
  const Fd fd = TRY(sys::openat(dir, path, O_RDONLY | O_DIRECTORY));
  return TRY_OR(list_directory(fd.get()), std::move(e).during(path.c_str()));
}

// --- changing -----------------------------------------------------------------------------------

Result<> fchmod(int fd, mode_t mode) {
  return done("fchmod", [&] { return ::fchmod(fd, mode); });
}
Result<> fchmodat(int dir, Path path, mode_t mode) {
  return done_at("fchmodat", path.c_str(), [&] { return ::fchmodat(dir, path.c_str(), mode, 0); });
}
Result<> fchownat(int dir, Path path, uid_t uid, gid_t gid, int flags) {
  return done_at("fchownat", path.c_str(),
                 [&] { return ::fchownat(dir, path.c_str(), uid, gid, flags); });
}
Result<> utimensat(int dir, Path path, const timespec (&times)[2], int flags) {
  return done_at("utimensat", path.c_str(),
                 [&] { return ::utimensat(dir, path.c_str(), times, flags); });
}
Result<> ftruncate(int fd, std::uint64_t size_bytes) {
  return done("ftruncate", [&] { return ::ftruncate(fd, static_cast<off_t>(size_bytes)); });
}
Result<> fallocate(int fd, int mode, std::uint64_t offset, std::uint64_t size_bytes) {
  return done("fallocate", [&] {
    return ::fallocate(fd, mode, static_cast<off_t>(offset), static_cast<off_t>(size_bytes));
  });
}
Result<> flock(int fd, int operation) {
  return done("flock", [&] { return ::flock(fd, operation); });
}

// --- descriptors --------------------------------------------------------------------------------

Result<Fd> duplicate(int fd, int at_least) {
  return new_fd("fcntl F_DUPFD_CLOEXEC", [&] { return ::fcntl(fd, F_DUPFD_CLOEXEC, at_least); });
}
Result<> dup3(int fd, int number, int flags) {
  return done("dup3", [&] { return ::dup3(fd, number, flags); });
}
Result<int> fcntl(int fd, int command, long argument) {
  return value("fcntl", [&] { return ::fcntl(fd, command, argument); });
}
Result<int> fcntl_pointer(int fd, int command, void* argument) {
  return value("fcntl", [&] { return ::fcntl(fd, command, argument); });
}
Result<int> ioctl_raw(int fd, unsigned long request, void* argument) {
  return value("ioctl", [&] { return ::ioctl(fd, request, argument); });
}
Result<Pipe> pipe2(int flags) {
  int ends[2];
  TRY(done("pipe2", [&] { return ::pipe2(ends, flags | O_CLOEXEC); }));
  return Pipe{Fd(ends[0]), Fd(ends[1])};
}
Result<std::size_t> tee(int from, int to, std::size_t bytes, unsigned flags) {
  return static_cast<std::size_t>(TRY(value("tee", [&] { return ::tee(from, to, bytes, flags); })));
}
Result<Fd> memfd_create(Path name, unsigned flags) {
  return new_fd("memfd_create", [&] { return ::memfd_create(name.c_str(), flags | MFD_CLOEXEC); });
}

Result<Mapping> Mapping::map(int fd, std::size_t size_bytes, int protection, int flags,
                             std::uint64_t offset) {
  void* const at =
      ::mmap(nullptr, size_bytes, protection, flags, fd, static_cast<off_t>(offset));
  if (at == MAP_FAILED) return failed("mmap");
  return Mapping(std::span(static_cast<std::byte*>(at), size_bytes));
}

}  // namespace dormouse::sys
