#include "engine/files/watched_inode.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/defer.h"
#include "base/format.h"
#include "base/text.h"
#include "engine/files/open_file.h"
#include "engine/files/opener.h"
#include "engine/files/paths.h"
#include "engine/files/saver.h"
#include "engine/mounts/mount_table.h"
#include "images/schema/event_files.pb.h"
#include "kernel/event_files.h"
#include "kernel/file.h"
#include "kernel/proc/fdinfo.h"

namespace dormouse::engine {
namespace {

// Is a file the watched inode? stat() of overlayfs does not show the numbers that fdinfo does, so the question is put in
// fdinfo's own terms: by a watch of ours. One inotify for all questions: the kernel takes its time to end one, and
// limits how many a user has.
class Comparison {
 public:
  static Result<Comparison> with(const WatchedInode& watched) { return Comparison(watched, TRY(sys::inotify_init())); }

  bool matches(int node) {  // O_PATH
    const auto number = sys::inotify_add_watch(probe_.get(), format("/proc/self/fd/{}", node), IN_DELETE_SELF);
    if (!number) return false;
    const Defer forget([&] { (void)sys::inotify_rm_watch(probe_.get(), *number); });
    const auto text = sys::read_file(AT_FDCWD, format("/proc/self/fdinfo/{}", probe_.get()));
    if (!text) return false;
    const auto info = proc::parse_fdinfo(*text);
    if (!info || info->rest.empty()) return false;
    const auto mine = parse_inotify_watch(info->rest.front());
    return mine && mine->inode == watched_.inode && mine->device == watched_.device;
  }
  bool matches(int root, const std::string& path) {
    const auto node = open_below(root, path, O_PATH | O_NOFOLLOW);
    return node && matches(node->get());
  }

 private:
  Comparison(const WatchedInode& watched, Fd probe) : watched_(watched), probe_(std::move(probe)) {}
  const WatchedInode& watched_;
  Fd probe_;
};

// Through a mount of the file system. Needs CAP_DAC_READ_SEARCH.
std::optional<std::string> path_by_handle(const WatchedInode& watched, const proc::MountInfo& mount, int root) {
  const auto on_mount = open_below(root, mount.mount_point, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (!on_mount) return std::nullopt;
  const auto node = sys::open_by_handle_at(on_mount->get(), watched.handle_type, watched.handle, O_PATH);
  if (!node) return std::nullopt;
  auto path = sys::readlinkat(AT_FDCWD, format("/proc/self/fd/{}", node->get()));
  if (!path || !path->starts_with('/')) return std::nullopt;
  return *path;
}

// Links of /proc/PID that lead to what a task has open, executes, or is in.
std::vector<std::string> links_of(const Task& task) {
  std::vector<std::string> links;
  if (!task.alive()) return links;
  links = {"cwd", "exe"};
  if (const auto entries = sys::list_directory(task.proc.get(), "fd"))
    for (const auto& entry : *entries) links.push_back("fd/" + entry.name);
  return links;
}

// What the tree's tasks have open, where they are, and the directories above.
std::set<std::string> places_of_interest(const Tree& tree) {
  std::set<std::string> places;
  const auto add = [&](const std::string& target) {
    if (!target.starts_with('/')) return;
    for (std::string path = target; places.insert(path).second && path != "/";)
      path = path.substr(0, std::max<std::size_t>(path.rfind('/'), 1));
  };
  for (const auto& task : tree.tasks)
    for (const std::string& link : links_of(*task))
      if (const auto target = sys::readlinkat(task->proc.get(), link)) add(*target);
  return places;
}

// The path below the directory `path`, on its file system, that leads to the inode.
std::optional<std::string> search_below(const std::string& path, Comparison& comparison, int root) {
  const auto top = open_below(root, path, O_RDONLY | O_DIRECTORY);
  if (!top) return std::nullopt;
  const auto file_system = sys::fstat(top->get());
  if (!file_system) return std::nullopt;
  std::vector<std::string> places{path};
  while (!places.empty()) {
    const std::string place = std::move(places.back());
    places.pop_back();
    if (comparison.matches(root, place)) return place;
    const auto directory = open_below(root, place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!directory) continue;
    const auto entries = sys::list_directory(directory->get());
    if (!entries) continue;
    for (const auto& entry : *entries) {
      const std::string below = (place == "/" ? "" : place) + "/" + entry.name;
      const auto status = sys::fstatat(directory->get(), entry.name, AT_SYMLINK_NOFOLLOW);
      if (!status) continue;
      if (S_ISDIR(status->st_mode)) {
        if (status->st_dev == file_system->st_dev) places.push_back(below);
      } else if (comparison.matches(root, below)) {
        return below;
      }
    }
  }
  return std::nullopt;
}

std::vector<std::uint8_t> parse_handle(std::string_view text) {
  std::vector<std::uint8_t> bytes;
  for (; text.size() >= 2; text.remove_prefix(2)) {
    const auto byte = parse_number<std::uint8_t>(text.substr(0, 2), 16);
    if (!byte) return {};
    bytes.push_back(*byte);
  }
  return bytes;
}

}  // namespace

std::uint64_t WatchWords::number(std::string_view key) const {
  const auto found = numbers.find(key);
  return found == numbers.end() ? 0 : found->second;
}

WatchedInode WatchWords::inode() const {
  return {number("ino"), static_cast<std::uint32_t>(number("sdev")), static_cast<int>(number("fhandle-type")), handle};
}

std::optional<WatchWords> parse_watch_words(std::string_view text) {
  WatchWords words;
  for (std::string_view word : split_blanks(text)) {
    const std::string_view key = take_until(word, ':');
    if (key == "f_handle") {
      words.handle = parse_handle(word);
      continue;
    }
    const auto number = parse_number<std::uint64_t>(word, 16);
    if (!number) return std::nullopt;
    words.numbers[key] = *number;
  }
  return words;
}

std::optional<InotifyWatch> parse_inotify_watch(std::string_view line) {
  if (!consume_prefix(line, "inotify ")) return std::nullopt;
  const auto words = parse_watch_words(line);
  if (!words || words->number("wd") == 0) return std::nullopt;
  InotifyWatch watch{words->inode()};
  watch.number = static_cast<std::uint32_t>(words->number("wd"));
  watch.mask = static_cast<std::uint32_t>(words->number("mask"));
  watch.ignored_mask = static_cast<std::uint32_t>(words->number("ignored_mask"));
  return watch;
}

std::uint32_t device_of(const proc::MountInfo& mount) { return mount.device_major << 20 | mount.device_minor; }

Result<> note_unread_events(const OpenFile& file, FilesSaver& saver) {
  int unread = 0;
  TRY_OR(sys::ioctl(file.fd.get(), FIONREAD, &unread), file.failed(std::move(e)));
  if (unread > 0)
    saver.context().log.info("{} of {}: {} bytes of unread events are not saved", file.object(), file.task->name(),
                             unread);
  return {};
}

Result<std::optional<std::string>> path_of_watched(const WatchedInode& watched, FilesSaver& saver) {
  const int root = saver.root();
  Comparison comparison = TRY(Comparison::with(watched));
  if (!watched.handle.empty())
    for (const proc::MountInfo& mount : saver.mounts().all()) {
      if (device_of(mount) != watched.device) continue;
      const auto path = path_by_handle(watched, mount, root);
      if (path && comparison.matches(root, *path)) return *path;
    }
  for (const std::string& path : places_of_interest(saver.context().tree))
    if (comparison.matches(root, path)) return path;
  for (const std::string& place : saver.options().irmap_scan_paths)
    if (auto path = search_below(place, comparison, root)) return path;
  return std::nullopt;
}

Result<std::optional<std::uint64_t>> held_without_name(const WatchedInode& watched, const FilesSaver& saver) {
  Comparison comparison = TRY(Comparison::with(watched));
  for (const auto& task : saver.context().tree.tasks) {
    for (const std::string& link : links_of(*task)) {
      const auto target = sys::readlinkat(task->proc.get(), link);
      if (!target || !target->ends_with(" (deleted)")) continue;
      const auto node = sys::openat(task->proc.get(), link, O_PATH);
      if (node && comparison.matches(node->get())) return TRY(sys::fstat(node->get())).st_ino;
    }
  }
  return std::nullopt;
}

Result<std::uint64_t> save_watched(const WatchedInode& watched, const OpenFile& file, FilesSaver& saver, pb::fh_entry* to) {
  to->set_bytes(static_cast<std::uint32_t>(watched.handle.size()));
  to->set_type(static_cast<std::uint32_t>(watched.handle_type));
  std::vector<std::uint64_t> words(std::max<std::size_t>(pb::min_entries, (watched.handle.size() + 7) / 8));
  if (!watched.handle.empty()) std::memcpy(words.data(), watched.handle.data(), watched.handle.size());
  for (const std::uint64_t word : words) to->add_handle(word);
  if (auto path = TRY_OR(path_of_watched(watched, saver), file.failed(std::move(e)))) {
    to->set_path(std::move(*path));
    return watched.inode;
  }
  if (const auto nameless = TRY_OR(held_without_name(watched, saver), file.failed(std::move(e)))) return *nameless;
  return fail(file.blocked(
      format("watches inode {} of device {:x}, whose path could not be found", watched.inode, watched.device),
      "remove the watch, keep the watched file open, or say where to search: --irmap-scan-path DIR"));
}

Result<Fd> find_watched(const pb::fh_entry& saved, std::uint64_t inode, std::uint32_t device, FilesOpener& opener) {
  if (saved.has_path()) {
    const std::string absolute = saved.path().starts_with('/') ? saved.path() : "/" + saved.path();
    return TRY_OR(open_below(opener.root(), absolute, O_PATH | O_NOFOLLOW), std::move(e).object(absolute));
  }
  if (auto nameless = TRY(opener.locate_nameless(inode, device))) return std::move(*nameless);
  if (saved.bytes() > MAX_HANDLE_SZ || saved.bytes() > static_cast<std::size_t>(saved.handle_size()) * sizeof(std::uint64_t))
    return fail(Error::corrupt(format("a file handle of {} bytes has {} words", saved.bytes(), saved.handle_size())));
  std::vector<std::uint8_t> handle(saved.bytes());
  if (!handle.empty()) std::memcpy(handle.data(), saved.handle().data(), handle.size());
  const Fd file_system = TRY(open_below(opener.root(), "/", O_RDONLY | O_DIRECTORY));
  auto node = sys::open_by_handle_at(file_system.get(), static_cast<int>(saved.type()), handle, O_PATH);
  if (node && TRY(sys::fstat(node->get())).st_ino == inode) return std::move(*node);
  return fail(Error::unsupported(format("the image does not tell the path of the watched inode {}, and the root's file "
                                        "system does not have it", inode))
                  .remedy("make the checkpoint with --force-irmap"));
}

}  // namespace dormouse::engine
