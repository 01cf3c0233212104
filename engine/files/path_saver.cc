#include "engine/files/path_saver.h"

#include <fcntl.h>
#include <linux/magic.h>

#include "base/format.h"
#include "engine/files/build_id.h"
#include "engine/files/ghost_file.h"
#include "engine/files/open_file.h"
#include "engine/files/proc_path.h"
#include "engine/files/saver.h"
#include "engine/mounts/mount_table.h"
#include "images/schema/files.pb.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

constexpr std::string_view kDeleted = " (deleted)";

std::string without_deleted_mark(const std::string& link) {
  return link.ends_with(kDeleted) ? link.substr(0, link.size() - kDeleted.size()) : link;
}

// Relative to the root directory, as the *at() calls want it.
std::string below_root(const std::string& path) { return path == "/" ? "." : path.substr(1); }

bool is_device(const OpenFile& file) {
  return S_ISCHR(file.stat.st_mode) || S_ISBLK(file.stat.st_mode);
}

// A size that may change behind the back of a checkpoint without harm: of a log that is appended to.
bool size_matters(const OpenFile& file) {
  return S_ISREG(file.stat.st_mode) && !(file.access_mode() == O_WRONLY && (file.flags & O_APPEND) != 0);
}

// The kernel's pseudo file systems hold no programs, and reading their files can have effects.
bool may_hold_programs(std::int64_t fs_type) {
  switch (fs_type) {
    case PROC_SUPER_MAGIC:
    case SYSFS_MAGIC:
    case CGROUP_SUPER_MAGIC:
    case CGROUP2_SUPER_MAGIC:
    case DEBUGFS_MAGIC:
    case TRACEFS_MAGIC:
    case SECURITYFS_MAGIC:
    case BPF_FS_MAGIC:
      return false;
    default:
      return true;
  }
}

// How restore recognises that a file was replaced meanwhile.
Result<> add_fingerprint(const OpenFile& file, FilesSaver& saver, pb::reg_file_entry* entry) {
  entry->set_mode(file.stat.st_mode);
  if (!size_matters(file)) return {};
  entry->set_size(static_cast<std::uint64_t>(file.stat.st_size));
  if (!may_hold_programs(file.fs_type)) return {};
  auto build_id = build_id_in_memory(file.task->proc.get(), file.beginning_at, file.beginning_bytes);
  if (!build_id && TRY(saver.reading_breaks_lease(file))) return {};
  if (!build_id) build_id = build_id_of(file.fd.get(), entry->size());
  for (const std::uint32_t word : *build_id) entry->add_build_id(word);
  return {};
}

Error outside(const OpenFile& file) {
  return file.blocked(
      format("was opened outside the container's mounts (mount {} is not among them)", file.mount_id),
      format("redirect it to /dev/null or a pipe, or name it with --external file[{:x}:{:x}]",
             file.mount_id, file.stat.st_ino));
}

}  // namespace

PathSaver::~PathSaver() {
  for (const Link& link : links_) (void)sys::unlinkat(link.root.get(), link.path);  // best effort
}

Result<std::uint32_t> PathSaver::save(const OpenFile& file, FilesSaver& saver) {
  const std::uint32_t id = saver.next_id()++;
  TRY(save(file, id, file.pos, saver));
  return id;
}

Result<> PathSaver::save(const OpenFile& file, std::uint32_t id, std::uint64_t pos, FilesSaver& saver) {
  pb::file_entry record;
  record.set_type(pb::REG);
  record.set_id(id);
  pb::reg_file_entry* entry = record.mutable_reg();
  entry->set_id(id);
  entry->set_flags(file.flags);
  entry->set_pos(pos);
  saver.fill_owner(file, entry->mutable_fown());

  const std::string external = format("file[{:x}:{:x}]", file.mount_id, file.stat.st_ino);
  if (saver.is_external(external)) {
    entry->set_name(external);
    entry->set_ext(true);
  } else {
    if (saver.mounts().by_id(static_cast<std::uint32_t>(file.mount_id)) == nullptr) return fail(outside(file));
    entry->set_name(TRY(lasting_path(file, id, saver)));
    if (saver.has_own_mounts()) entry->set_mnt_id(file.mount_id);
  }
  TRY(add_fingerprint(file, saver, entry));
  return saver.write(record);
}

// The path to store. If it does not lead to the file any more, a remap record says what will.
Result<std::string> PathSaver::lasting_path(const OpenFile& file, std::uint32_t id,
                                            FilesSaver& saver) {
  if (!file.link.starts_with('/'))
    return fail(file.blocked("has no path", "close it before the checkpoint"));
  const std::string bare = without_deleted_mark(file.link);
  if (file.fs_type == PROC_SUPER_MAGIC) {
    if (const pid_t gone = TRY(former_owner(file, bare, saver)); gone != 0) TRY(remap_to_process(gone, id, saver));
    return bare;
  }
  // The kernel makes and removes these nodes itself.
  if (file.fs_type == DEVPTS_SUPER_MAGIC) return bare;
  if (file.stat.st_nlink == 0) {
    TRY(remap_to_ghost(file, bare, id, saver));
    return bare;
  }
  auto found = sys::fstatat(saver.root(), below_root(file.link), AT_SYMLINK_NOFOLLOW);
  if (!found) {
    if (!found.error().is_kernel(ENOENT) && !found.error().is_kernel(ENOTDIR))
      return fail(file.failed(std::move(found).error()));
    TRY(remap_to_link(file, bare, id, saver));
    return bare;
  }
  if (found->st_ino == file.stat.st_ino && found->st_dev == file.stat.st_dev) return file.link;
  if (saver.options().evasive_devices && is_device(file) && found->st_rdev == file.stat.st_rdev)
    return file.link;
  return fail(file.blocked(
      format("its path leads to another file now (inode {}, not {}): something is mounted over it",
             found->st_ino, file.stat.st_ino),
      is_device(file) ? "try --evasive-devices" : "close it before the checkpoint"));
}

Result<> PathSaver::remap_to_ghost(const OpenFile& file, const std::string& path, std::uint32_t id,
                                   FilesSaver& saver) {
  const std::uint64_t occupied = static_cast<std::uint64_t>(file.stat.st_blocks) * 512;
  const std::uint64_t limit = saver.options().ghost_limit_bytes;
  if (occupied > limit)
    return fail(file.blocked(
        format("is deleted, and its {} bytes exceed the limit of {} for deleted files", occupied, limit),
        format("raise the limit: --ghost-limit {}", occupied)));
  if (TRY(saver.reading_breaks_lease(file)))
    return fail(file.blocked("is deleted and leased, and reading it would break the lease",
                             "give the lease up before the checkpoint"));
  const auto [ghost, is_new] =
      ghosts_.try_emplace({file.stat.st_dev, file.stat.st_ino}, static_cast<std::uint32_t>(ghosts_.size() + 1));
  if (is_new) {
    saver.context().log.debug("{} is deleted: its content goes to ghost file {}", path, ghost->second);
    TRY_OR(save_ghost(file, ghost->second, saver.context().out), file.failed(std::move(e)));
  }
  pb::remap_file_path_entry remap;
  remap.set_orig_id(id);
  remap.set_remap_id(ghost->second);
  remap.set_remap_type(pb::GHOST);
  return write_remap(remap, saver);
}

// The file lost this name but has others, which nobody can find. Another name for it next to the lost
// one is a change to the container's file system, so it is only made when asked for.
Result<> PathSaver::remap_to_link(const OpenFile& file, const std::string& path, std::uint32_t id,
                                  FilesSaver& saver) {
  const bool overlay = file.fs_type == OVERLAYFS_SUPER_MAGIC;
  const Error refusal = file.blocked("lost its name but is still linked under another one",
                                     "allow a temporary name beside it: --link-remap");
  if (!saver.options().link_remap && !overlay) return fail(refusal);

  const std::uint32_t link_id = saver.next_id()++;
  std::string link = path.substr(0, path.rfind('/') + 1) + format("link_remap.{}", link_id);
  auto linked = sys::linkat(file.fd.get(), "", saver.root(), below_root(link), AT_EMPTY_PATH);
  if (!linked) {
    // overlayfs: stat() tells the link count of the lower layer's file, but linkat() knows that it is
    // deleted in this one.
    if (overlay && linked.error().is_kernel(ENOENT)) return remap_to_ghost(file, path, id, saver);
    return fail(file.failed(std::move(linked).error()));
  }
  links_.push_back({TRY(sys::duplicate(saver.root())), below_root(link)});
  if (!saver.options().link_remap) {
    TRY(sys::unlinkat(saver.root(), below_root(link)));
    links_.pop_back();
    return fail(refusal);
  }

  pb::file_entry record;
  record.set_type(pb::REG);
  record.set_id(link_id);
  record.mutable_reg()->set_id(link_id);
  record.mutable_reg()->set_flags(0);
  record.mutable_reg()->set_pos(0);
  record.mutable_reg()->set_name(link);
  owner_to_image({}, saver.context().tree, record.mutable_reg()->mutable_fown());
  TRY(saver.write(record));
  pb::remap_file_path_entry remap;
  remap.set_orig_id(id);
  remap.set_remap_id(link_id);
  remap.set_remap_type(pb::LINKED);
  return write_remap(remap, saver);
}

Result<> PathSaver::remap_to_process(pid_t pid, std::uint32_t id, FilesSaver& saver) {
  pb::remap_file_path_entry remap;
  remap.set_orig_id(id);
  remap.set_remap_id(static_cast<std::uint32_t>(pid));
  remap.set_remap_type(pb::PROCFS);
  return write_remap(remap, saver);
}

Result<> PathSaver::write_remap(const pb::remap_file_path_entry& remap, FilesSaver& saver) {
  if (!remaps_) remaps_ = TRY(saver.context().out.create(images::kRemapFilePath));
  return remaps_->append(remap);
}

Result<> PathSaver::finish() {
  if (!remaps_) return {};
  return remaps_->finish();
}

}  // namespace dormouse::engine
