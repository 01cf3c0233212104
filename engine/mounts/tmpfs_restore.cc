#include "engine/mounts/tmpfs_restore.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/defer.h"
#include "base/format.h"
#include "kernel/file.h"

namespace dormouse::engine {

namespace {

constexpr std::size_t kReadBytes = 128 << 10;
constexpr std::uint64_t kInside =
    RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;

using Archive = std::unique_ptr<struct ::archive, decltype([](auto* a) { ::archive_read_free(a); })>;

Failure damaged(std::string_view why) {
  return fail(Error::corrupt(format("the archive is damaged: {}", why)));
}
Failure damaged(struct ::archive* archive) {
  const char* text = ::archive_error_string(archive);
  return damaged(text ? text : "it cannot be read");
}

// "./a/b/" as ("a", "b"); ("", "") is the root itself.
struct Place {
  std::string directory, name;
};
Result<Place> place_of(const char* path) {
  if (!path) return damaged("a member without a name");
  std::string_view text(path);
  while (text.starts_with("./") || text.starts_with('/')) text.remove_prefix(text[0] == '/' ? 1 : 2);
  while (text.ends_with('/')) text.remove_suffix(1);
  if (text == ".") text = {};
  const auto slash = text.rfind('/');
  Place place;
  if (slash != std::string_view::npos) place.directory = text.substr(0, slash);
  place.name = slash == std::string_view::npos ? text : text.substr(slash + 1);
  if (place.name == "." || place.name == "..") return damaged("a member named " + place.name);
  return place;
}

class Restorer {
 public:
  Restorer(int root, struct ::archive* archive, Log& log) : root_(root), archive_(archive), log_(log) {}

  [[nodiscard]] Result<> run() {
    for (;;) {
      struct ::archive_entry* entry = nullptr;
      const int result = ::archive_read_next_header(archive_, &entry);
      if (result == ARCHIVE_EOF) break;
      if (result != ARCHIVE_OK && result != ARCHIVE_WARN) return damaged(archive_);
      const char* name = ::archive_entry_pathname(entry);
      TRY_OR(member(entry), std::move(e).object(format("file {}", name ? name : "?")));
    }
    // Filling a directory changes its time.
    for (const auto& [place, modified] : directories_) {
      const timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT}, modified};
      const int parent = TRY(open_directory(place.directory));
      TRY(sys::utimensat(parent, place.name, times));
    }
    return {};
  }

 private:
  // Kept open: members of one directory come one after the other.
  Result<int> open_directory(const std::string& path) {
    if (path.empty()) return root_;
    if (!current_ || current_path_ != path) {
      current_ = TRY(sys::openat2(root_, path, O_PATH | O_DIRECTORY | O_CLOEXEC, kInside));
      current_path_ = path;
    }
    return current_.get();
  }

  static timespec modified(struct ::archive_entry* entry) {
    return {.tv_sec = ::archive_entry_mtime(entry), .tv_nsec = ::archive_entry_mtime_nsec(entry)};
  }

  [[nodiscard]] Result<> member(struct ::archive_entry* entry) {
    const Place place = TRY(place_of(::archive_entry_pathname(entry)));
    if (place.name.empty()) return directory(entry, root_, {"", "."});
    const int parent = TRY(open_directory(place.directory));
    const char* const same_as = ::archive_entry_hardlink(entry);
    if (same_as) return hard_link(same_as, parent, place.name);
    const mode_t mode = ::archive_entry_mode(entry);
    switch (mode & S_IFMT) {
      case S_IFDIR:
        TRY(sys::mkdirat(parent, place.name, 0700));
        return directory(entry, parent, place);
      case S_IFREG: return regular(entry, parent, place.name);
      case S_IFLNK: {
        const char* const target = ::archive_entry_symlink(entry);
        if (!target) return damaged("a symbolic link without a target");
        TRY(sys::symlinkat(target, parent, place.name));
        return attributes(entry, parent, place.name);
      }
      case S_IFCHR:
      case S_IFBLK:
      case S_IFIFO:
        TRY(sys::mknodat(parent, place.name, mode, ::archive_entry_rdev(entry)));
        return attributes(entry, parent, place.name);
      default: return damaged("a member of unknown type");
    }
  }

  [[nodiscard]] Result<> hard_link(const char* same_as, int parent, const std::string& name) {
    const Place target = TRY(place_of(same_as));
    const Fd directory = target.directory.empty()
                             ? TRY(sys::openat(root_, ".", O_PATH | O_DIRECTORY))
                             : TRY(sys::openat2(root_, target.directory,
                                                O_PATH | O_DIRECTORY | O_CLOEXEC, kInside));
    return sys::linkat(directory.get(), target.name, parent, name);
  }

  [[nodiscard]] Result<> directory(struct ::archive_entry* entry, int parent, Place place) {
    TRY(owner_and_mode(entry, parent, place.name));
    TRY(extended(entry, parent, place.name));
    directories_.emplace_back(std::move(place), modified(entry));
    return {};
  }

  [[nodiscard]] Result<> regular(struct ::archive_entry* entry, int parent, const std::string& name) {
    const Fd file = TRY(sys::openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    std::uint64_t end = 0;
    for (;;) {
      const void* data = nullptr;
      std::size_t size = 0;
      la_int64_t offset = 0;
      const int result = ::archive_read_data_block(archive_, &data, &size, &offset);
      if (result == ARCHIVE_EOF) break;
      if (result != ARCHIVE_OK || offset < 0) return damaged(archive_);
      TRY(sys::pwrite_all(file.get(), std::span(static_cast<const std::byte*>(data), size),
                          static_cast<std::uint64_t>(offset)));
      if (size) end = static_cast<std::uint64_t>(offset) + size;
    }
    const auto size = static_cast<std::uint64_t>(::archive_entry_size(entry));
    if (end > size) return damaged("more data than the file is long");
    if (end < size) TRY(sys::ftruncate(file.get(), size));
    return attributes(entry, parent, name);
  }

  [[nodiscard]] Result<> attributes(struct ::archive_entry* entry, int parent, const std::string& name) {
    TRY(owner_and_mode(entry, parent, name));
    TRY(extended(entry, parent, name));
    const timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT}, modified(entry)};
    return sys::utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW);
  }

  // Owner first: the kernel drops set-id bits when the owner changes.
  [[nodiscard]] Result<> owner_and_mode(struct ::archive_entry* entry, int parent,
                                        const std::string& name) {
    TRY(sys::fchownat(parent, name, static_cast<uid_t>(::archive_entry_uid(entry)),
                      static_cast<gid_t>(::archive_entry_gid(entry)), AT_SYMLINK_NOFOLLOW));
    const mode_t mode = ::archive_entry_mode(entry);
    return S_ISLNK(mode) ? Result<>{} : sys::fchmodat(parent, name, mode & 07777);
  }

  [[nodiscard]] Result<> extended(struct ::archive_entry* entry, int parent, const std::string& name) {
    if (::archive_entry_xattr_reset(entry) == 0) return {};
    const std::string path = format("/proc/self/fd/{}/{}", parent, name);
    const char* key = nullptr;
    const void* value = nullptr;
    std::size_t size = 0;
    while (::archive_entry_xattr_next(entry, &key, &value, &size) == ARCHIVE_OK) {
      if (::lsetxattr(path.c_str(), key, value, size, 0) == 0) continue;
      // Labels of this node's security module may differ from the other node's.
      if (std::string_view(key).starts_with("security.")) {
        log_.debug("tmpfs: {} of {} is not accepted here", key, name);
        continue;
      }
      return fail(Error::kernel(format("setxattr {}", key), errno));
    }
    return {};
  }

  int root_;
  struct ::archive* archive_;
  Log& log_;
  Fd current_;
  std::string current_path_;
  std::vector<std::pair<Place, timespec>> directories_;
};

}  // namespace

Result<> restore_tmpfs(int root, Fd archive, Log& log) {
  const Archive reader(::archive_read_new());
  if (!reader) return fail(Error::kernel("archive_read_new", ENOMEM));
  ::archive_read_support_filter_gzip(reader.get());
  ::archive_read_support_format_tar(reader.get());
  if (::archive_read_open_fd(reader.get(), archive.get(), kReadBytes) != ARCHIVE_OK)
    return damaged(reader.get());
  const mode_t mask = ::umask(0);
  const Defer put_back([&] { ::umask(mask); });
  return Restorer(root, reader.get(), log).run();
}

}  // namespace dormouse::engine
