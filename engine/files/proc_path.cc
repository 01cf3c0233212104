#include "engine/files/proc_path.h"

#include <fcntl.h>

#include <algorithm>

#include "base/format.h"
#include "base/text.h"
#include "engine/files/open_file.h"
#include "engine/files/saver.h"
#include "engine/mounts/mount_table.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

bool is_in_tree(const Tree& tree, pid_t number) {
  return std::ranges::any_of(tree.tasks, [&](const auto& task) {
    return std::ranges::any_of(task->threads, [&](const Thread& thread) { return thread.ns_tid == number; });
  });
}

}  // namespace

std::optional<ProcPath> parse_proc_path(std::string_view path, const proc::MountInfo& mount) {
  std::string within = mount.root == "/" ? "" : mount.root;
  if (const auto below = path_below(path, mount.mount_point); !below.empty()) within += format("/{}", below);
  std::string_view rest = within;
  if (!consume_prefix(rest, "/")) return std::nullopt;
  const auto pid = parse_number<pid_t>(take_until(rest, '/'));
  if (!pid || *pid <= 0) return std::nullopt;
  return ProcPath{*pid, std::string(rest)};
}

// Descriptors, mappings and threads are what a process has made for itself.
std::optional<ToldDescriptor> descriptor_told_of(std::string_view path) {
  const auto words = split(path, '/');
  if (words.size() < 4) return std::nullopt;
  const std::string_view kind = words[words.size() - 2];
  if (kind != "fd" && kind != "fdinfo") return std::nullopt;
  const auto pid = parse_number<pid_t>(words[words.size() - 3]);
  const auto number = parse_number<std::uint32_t>(words.back());
  if (!pid || !number) return std::nullopt;
  return ToldDescriptor{*pid, *number};
}

bool every_process_has(const ProcPath& path) {
  std::string_view rest = path.file;
  const std::string_view first = take_until(rest, '/');
  if (rest.empty()) return true;
  if (first == "task") {
    const std::string_view thread = take_until(rest, '/');
    return parse_number<pid_t>(thread) == path.pid && every_process_has({path.pid, std::string(rest)});
  }
  return first != "fd" && first != "fdinfo" && first != "map_files";
}

Result<pid_t> former_owner(const OpenFile& file, const std::string& path, const FilesSaver& saver) {
  const std::string_view remedy = "close it before the checkpoint";
  const proc::MountInfo* const mount = saver.mounts().by_id(static_cast<std::uint32_t>(file.mount_id));
  const auto owned = mount != nullptr && is_below(path, mount->mount_point) ? parse_proc_path(path, *mount) : std::nullopt;
  const auto found = sys::fstatat(saver.root(), path == "/" ? "." : path.substr(1), AT_SYMLINK_NOFOLLOW);
  if (!owned) {
    if (!found) return fail(file.blocked("is in /proc, but not any more", std::string(remedy)));
    return 0;
  }
  const bool in_tree = is_in_tree(saver.context().tree, owned->pid);
  // As long as it is open, a file of a living process is the one that its path leads to.
  if (found && found->st_ino == file.stat.st_ino && found->st_dev == file.stat.st_dev) {
    // The first process is there on every node.
    if (in_tree || owned->pid == 1) return 0;
    return fail(file.blocked(format("is of process {}, which is not among the tasks", owned->pid), std::string(remedy)));
  }
  if (in_tree)
    return fail(file.blocked(format("is of something that process {} does not have any more, or of an earlier one with that "
                                    "number", owned->pid), std::string(remedy)));
  if (!every_process_has(*owned))
    return fail(file.blocked(format("is of something that process {} had, which is gone", owned->pid), std::string(remedy)));
  return owned->pid;
}

}  // namespace dormouse::engine
