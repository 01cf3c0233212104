// System calls on files, directories and descriptors: same names as the kernel's, failures as values,
// EINTR handled, O_CLOEXEC always added. Descriptors passed as int stay the caller's.
//
// `dir` is a directory descriptor or AT_FDCWD. An error names the call and the path; the caller adds
// whose it was.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

struct statfs;

namespace dormouse::sys {

// A zero-terminated path, from a literal or a std::string.
class Path {
 public:
  Path(const char* text) : text_(text) {}                 // NOLINT: converts on purpose
  Path(const std::string& text) : text_(text.c_str()) {}  // NOLINT
  const char* c_str() const { return text_; }

 private:
  const char* text_;
};

// --- opening and making -------------------------------------------------------------------------
Result<Fd> openat(int dir, Path path, int flags, mode_t mode = 0);
// `resolve`: RESOLVE_* of <linux/openat2.h>; resolution that was refused is EXDEV or ELOOP.
Result<Fd> openat2(int dir, Path path, std::uint64_t flags, std::uint64_t resolve, mode_t mode = 0);
// What a file handle (name_to_handle_at, fdinfo of inotify) stands for, on the file system that `mount`
// is on. Needs CAP_DAC_READ_SEARCH; a handle of a file that is gone is ESTALE.
Result<Fd> open_by_handle_at(int mount, int type, std::span<const std::uint8_t> handle, int flags);
[[nodiscard]] Result<> mkdirat(int dir, Path path, mode_t mode);
[[nodiscard]] Result<> mknodat(int dir, Path path, mode_t mode, dev_t device);
[[nodiscard]] Result<> symlinkat(Path target, int dir, Path path);
[[nodiscard]] Result<> linkat(int from_dir, Path from, int to_dir, Path to, int flags = 0);
[[nodiscard]] Result<> unlinkat(int dir, Path path, int flags = 0);
[[nodiscard]] Result<> renameat(int from_dir, Path from, int to_dir, Path to, unsigned flags = 0);

// --- reading and writing ------------------------------------------------------------------------
// One call each; may transfer less than asked. 0 from read: end of file.
Result<std::size_t> read(int fd, std::span<std::byte> to);
Result<std::size_t> pread(int fd, std::span<std::byte> to, std::uint64_t offset);
Result<std::size_t> write(int fd, std::span<const std::byte> from);
Result<std::size_t> pwrite(int fd, std::span<const std::byte> from, std::uint64_t offset);
// Until done. An end of file before that is ENODATA.
[[nodiscard]] Result<> read_exactly(int fd, std::span<std::byte> to);
[[nodiscard]] Result<> pread_exactly(int fd, std::span<std::byte> to, std::uint64_t offset);
[[nodiscard]] Result<> write_all(int fd, std::span<const std::byte> from);
[[nodiscard]] Result<> write_all(int fd, std::string_view text);
[[nodiscard]] Result<> pwrite_all(int fd, std::span<const std::byte> from, std::uint64_t offset);
// From the current position to the end of the file.
Result<std::string> read_all(int fd);
Result<std::string> read_file(int dir, Path path);
// For files of the kernel (proc, cgroup, sysctl): opens an existing file and hands over the text in one write.
[[nodiscard]] Result<> write_file(int dir, Path path, std::string_view text);
Result<std::uint64_t> lseek(int fd, std::int64_t offset, int whence);
[[nodiscard]] Result<> fsync(int fd);

// --- asking -------------------------------------------------------------------------------------
Result<struct ::stat> fstat(int fd);
Result<struct ::stat> fstatat(int dir, Path path, int flags = 0);
// `path` may be "" with AT_EMPTY_PATH; `mask`: STATX_*.
Result<struct ::statx> statx(int dir, Path path, int flags, unsigned mask);
// The mount an open file lives on, as in mountinfo's first field (Linux 5.8).
Result<std::uint64_t> mount_id(int fd);
Result<struct ::statfs> fstatfs(int fd);
Result<struct ::statfs> statfs(Path path);
Result<std::string> readlinkat(int dir, Path path);
[[nodiscard]] Result<> faccessat(int dir, Path path, int mode, int flags = 0);

struct DirectoryEntry {
  std::string name;
  std::uint64_t inode = 0;
  std::uint8_t type = 0;  // DT_* of <dirent.h>; DT_UNKNOWN where the file system does not say
};
// All entries but "." and "..", in the file system's order. Reads from the descriptor's position.
Result<std::vector<DirectoryEntry>> list_directory(int fd);
Result<std::vector<DirectoryEntry>> list_directory(int dir, Path path);

// --- changing -----------------------------------------------------------------------------------
[[nodiscard]] Result<> fchmod(int fd, mode_t mode);
[[nodiscard]] Result<> fchmodat(int dir, Path path, mode_t mode);
[[nodiscard]] Result<> fchownat(int dir, Path path, uid_t uid, gid_t gid, int flags = 0);
[[nodiscard]] Result<> utimensat(int dir, Path path, const timespec (&times)[2], int flags = 0);
[[nodiscard]] Result<> ftruncate(int fd, std::uint64_t size_bytes);
[[nodiscard]] Result<> fallocate(int fd, int mode, std::uint64_t offset, std::uint64_t size_bytes);
[[nodiscard]] Result<> flock(int fd, int operation);

// --- descriptors --------------------------------------------------------------------------------
// Lowest free number from `at_least` on.
Result<Fd> duplicate(int fd, int at_least = 3);
// Exactly `number`, whatever it was; O_CLOEXEC only if it is in `flags`.
[[nodiscard]] Result<> dup3(int fd, int number, int flags);
// Commands that take and return integers (F_GETFL, F_SETFL, F_GETPIPE_SZ, F_ADD_SEALS, F_GETSIG, …).
Result<int> fcntl(int fd, int command, long argument = 0);
// Commands that take a pointer (F_GETOWN_EX, F_OFD_GETLK, F_GETOWNER_UIDS, …).
Result<int> fcntl_pointer(int fd, int command, void* argument);
Result<int> ioctl_raw(int fd, unsigned long request, void* argument);
template <class T>
Result<int> ioctl(int fd, unsigned long request, T* argument) {
  return ioctl_raw(fd, request, const_cast<std::remove_const_t<T>*>(argument));
}
inline Result<int> ioctl(int fd, unsigned long request, std::uintptr_t argument = 0) {
  return ioctl_raw(fd, request, reinterpret_cast<void*>(argument));
}

struct Pipe {
  Fd read_end, write_end;
};
Result<Pipe> pipe2(int flags = 0);
// Duplicates the content of one pipe into another, consuming nothing; `flags`: SPLICE_F_*.
Result<std::size_t> tee(int from, int to, std::size_t bytes, unsigned flags);
Result<Fd> memfd_create(Path name, unsigned flags = 0);

// Memory mapped into the engine; unmapped when it goes.
class Mapping {
 public:
  Mapping() = default;
  // `fd` may be -1 with MAP_ANONYMOUS. The descriptor may be closed afterwards.
  static Result<Mapping> map(int fd, std::size_t size_bytes, int protection, int flags,
                             std::uint64_t offset = 0);
  Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Mapping& operator=(Mapping&& other) noexcept {
    if (this != &other) {
      reset();
      bytes_ = std::exchange(other.bytes_, {});
    }
    return *this;
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { reset(); }

  std::byte* data() const { return bytes_.data(); }
  std::size_t size() const { return bytes_.size(); }
  std::span<std::byte> bytes() const { return bytes_; }
  explicit operator bool() const { return !bytes_.empty(); }
  void reset() noexcept {
    if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
    bytes_ = {};
  }

 private:
  explicit Mapping(std::span<std::byte> bytes) : bytes_(bytes) {}
  std::span<std::byte> bytes_;
};

}  // namespace dormouse::sys
