#include "engine/files/saver.h"

#include <fcntl.h>

#include <algorithm>

#include "engine/files/file_locks.h"
#include "images/schema/files.pb.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

Result<bool> shares_our_mounts(const Task& task) {
  const auto ours = TRY(sys::fstatat(AT_FDCWD, "/proc/self/ns/mnt"));
  const auto theirs = TRY(sys::fstatat(task.proc.get(), "ns/mnt"));
  return ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev;
}

}  // namespace

Result<std::unique_ptr<FilesSaver>> FilesSaver::create(DumpContext& context, const MountTable& mounts) {
  images::Writer files = TRY(context.out.create(images::kFiles));
  std::unique_ptr<FilesSaver> saver(new FilesSaver(context, mounts, std::move(files)));
  const Task& root = context.tree.root();
  saver->has_own_mounts_ = !TRY(shares_our_mounts(root));
  // Names in /proc start at the root of the mount namespace. A container's root task has that as its
  // root directory (pivot_root); among the node's mounts it is our own.
  saver->root_ = saver->has_own_mounts_ ? TRY(sys::openat(root.proc.get(), "root", O_PATH | O_DIRECTORY))
                                        : TRY(sys::openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY));
  saver->ids_ = TRY(UserMaps::of(root.proc.get()));
  return saver;
}

bool FilesSaver::is_external(const std::string& key) const {
  return std::ranges::find(options().externals, key) != options().externals.end();
}

Result<> FilesSaver::write(const pb::file_entry& record) { return files_.append(record); }

void FilesSaver::fill_owner(const OpenFile& file, pb::fown_entry* entry) const {
  owner_to_image(file.owner, context_.tree, entry);
}

// There is no such lease but on a file that its holder alone has open (fs/locks.c: check_conflicting_open).
Result<bool> FilesSaver::reading_breaks_lease(const OpenFile& file) {
  if (file.executed) return false;  // and the kernel has it open too
  if (file.number >= 0 && !file.path_only()) return has_lease_against_reading(file);
  return context_.leases.broken_by_reading(file.stat.st_ino);
}

Result<> FilesSaver::finish() {
  TRY(paths_.finish());
  return files_.finish();
}

}  // namespace dormouse::engine
