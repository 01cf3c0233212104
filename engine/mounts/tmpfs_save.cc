#include "engine/mounts/tmpfs_save.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/format.h"
#include "base/text.h"
#include "engine/mounts/gzip_writer.h"
#include "engine/mounts/tar_writer.h"
#include "kernel/file.h"

namespace dormouse::engine {

namespace {

constexpr int kCompressionLevel = 1;
constexpr std::size_t kBufferBytes = 256 << 10;

class Saver {
 public:
  Saver(const MapId& map_uid, const MapId& map_gid, Leases& leases, Log& log, TarWriter& tar)
      : map_uid_(map_uid), map_gid_(map_gid), leases_(leases), log_(log), tar_(tar) {}

  // `path` ends with a slash.
  [[nodiscard]] Result<> directory(int fd, const std::string& path) {
    const struct ::stat stat = TRY(sys::fstat(fd));
    TRY(tar_.add(member(stat, path, own_path(fd))));
    for (const auto all = TRY(sys::list_directory(fd)); const auto& entry : all)
      TRY_OR(child(fd, path, entry.name), std::move(e).object("file " + path + entry.name));
    return {};
  }

 private:
  static std::string own_path(int fd) { return format("/proc/self/fd/{}", fd); }

  TarMember member(const struct ::stat& stat, std::string path, const std::string& reach) {
    TarMember result;
    result.path = std::move(path);
    result.mode = stat.st_mode;
    result.uid = map_uid_ ? map_uid_(stat.st_uid) : stat.st_uid;
    result.gid = map_gid_ ? map_gid_(stat.st_gid) : stat.st_gid;
    result.modified = stat.st_mtim;
    result.device = stat.st_rdev;
    // "fd/N" itself is a link to what is meant; below it the last component is.
    const bool through_link = S_ISDIR(stat.st_mode) || S_ISREG(stat.st_mode);
    result.attributes = attributes(reach, through_link);
    return result;
  }

  // Without support for them (or on a file system that lost them) there are none.
  static std::vector<std::pair<std::string, std::string>> attributes(const std::string& path,
                                                                     bool follow) {
    const ssize_t list_size = (follow ? ::listxattr : ::llistxattr)(path.c_str(), nullptr, 0);
    std::vector<std::pair<std::string, std::string>> result;
    if (list_size <= 0) return result;
    std::string names(static_cast<std::size_t>(list_size), '\0');
    if ((follow ? ::listxattr : ::llistxattr)(path.c_str(), names.data(), names.size()) != list_size)
      return result;
    std::string value;
    for (std::string_view rest = names; !rest.empty();) {
      const std::string name(take_until(rest, '\0'));
      value.resize(kAttributeBytes);
      const ssize_t size = (follow ? ::getxattr : ::lgetxattr)(path.c_str(), name.c_str(),
                                                               value.data(), value.size());
      if (size >= 0) result.emplace_back(name, value.substr(0, static_cast<std::size_t>(size)));
    }
    return result;
  }
  static constexpr std::size_t kAttributeBytes = 64 << 10;  // the kernel's limit for one value

  [[nodiscard]] Result<> child(int parent, const std::string& path, const std::string& name) {
    const struct ::stat stat = TRY(sys::fstatat(parent, name, AT_SYMLINK_NOFOLLOW));
    if (S_ISDIR(stat.st_mode)) {
      const Fd fd = TRY(sys::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME));
      return directory(fd.get(), path + name + '/');
    }
    if (S_ISSOCK(stat.st_mode)) {
      // Bound again by whoever restores the socket; nobody can connect to one that is not bound.
      log_.debug("tmpfs: socket {}{} is left out", path, name);
      return {};
    }
    if (stat.st_nlink > 1) {
      const auto [first, fresh] = seen_.try_emplace(stat.st_ino, path + name);
      if (!fresh) return hard_link(stat, path + name, first->second);
    }
    if (S_ISREG(stat.st_mode) && TRY(leases_.broken_by_reading(stat.st_ino)))
      return fail(Error::unsupported("has a lease on it, which reading the file would break")
                      .remedy("give the lease up before the checkpoint"));
    if (S_ISREG(stat.st_mode)) return regular(parent, name, path + name);
    TarMember file = member(stat, path + name, format("{}/{}", own_path(parent), name));
    if (S_ISLNK(stat.st_mode)) file.link = TRY(sys::readlinkat(parent, name));
    return tar_.add(file);
  }

  [[nodiscard]] Result<> hard_link(const struct ::stat& stat, std::string path,
                                   const std::string& same_as) {
    TarMember link;
    link.path = std::move(path);
    link.mode = stat.st_mode;
    link.uid = map_uid_ ? map_uid_(stat.st_uid) : stat.st_uid;
    link.gid = map_gid_ ? map_gid_(stat.st_gid) : stat.st_gid;
    link.modified = stat.st_mtim;
    link.same_as = same_as;
    return tar_.add(link);
  }

  static Result<std::vector<DataRange>> data_of(int fd, std::uint64_t size) {
    std::vector<DataRange> ranges;
    for (std::uint64_t at = 0; at < size;) {
      const auto begin = sys::lseek(fd, static_cast<std::int64_t>(at), SEEK_DATA);
      if (!begin) {
        if (begin.error().is_kernel(ENXIO)) break;  // a hole up to the end
        return fail(begin.error());
      }
      const std::uint64_t end =
          std::min(size, TRY(sys::lseek(fd, static_cast<std::int64_t>(*begin), SEEK_HOLE)));
      if (*begin >= end) break;
      ranges.push_back({*begin, end - *begin});
      at = end;
    }
    return ranges;
  }

  [[nodiscard]] Result<> regular(int parent, const std::string& name, std::string path) {
    const Fd fd = TRY(sys::openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NOATIME | O_NONBLOCK));
    const struct ::stat stat = TRY(sys::fstat(fd.get()));
    TarMember file = member(stat, std::move(path), own_path(fd.get()));
    file.size = static_cast<std::uint64_t>(stat.st_size);
    file.data = TRY(data_of(fd.get(), file.size));
    TRY(tar_.add(file));
    if (!buffer_ && !file.data.empty()) buffer_ = std::make_unique<std::byte[]>(kBufferBytes);
    for (const auto& range : file.data) {
      for (std::uint64_t done = 0; done < range.size;) {
        const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(kBufferBytes, range.size - done));
        const std::span bytes(buffer_.get(), part);
        std::size_t got = TRY(sys::pread(fd.get(), bytes, range.offset + done));
        // It was truncated meanwhile; the header has promised its size.
        if (got == 0) std::ranges::fill(bytes, std::byte{}), got = part;
        TRY(tar_.content(bytes.first(got)));
        done += got;
      }
    }
    return {};
  }

  const MapId& map_uid_;
  const MapId& map_gid_;
  Leases& leases_;
  Log& log_;
  TarWriter& tar_;
  std::map<ino_t, std::string> seen_;  // files with several links
  std::unique_ptr<std::byte[]> buffer_;
};

}  // namespace

Result<> save_tmpfs(int root, const MapId& map_uid, const MapId& map_gid, Leases& leases, Log& log,
                    const std::function<Result<>(std::span<const std::byte>)>& sink) {
  GzipWriter gzip(sink, kCompressionLevel);
  TarWriter tar([&](std::span<const std::byte> bytes) { return gzip.write(bytes); });
  // A descriptor of our own: listing moves the position.
  const Fd fd = TRY(sys::openat(root, ".", O_RDONLY | O_DIRECTORY | O_NOATIME));
  TRY(Saver(map_uid, map_gid, leases, log, tar).directory(fd.get(), "./"));
  TRY(tar.finish());
  return gzip.finish();
}

}  // namespace dormouse::engine
