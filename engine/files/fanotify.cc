#include "engine/files/fanotify.h"

#include <fcntl.h>
#include <sys/fanotify.h>

#include "base/format.h"
#include "base/text.h"
#include "engine/files/open_file.h"
#include "engine/files/opener.h"
#include "engine/files/paths.h"
#include "engine/files/saver.h"
#include "engine/mounts/mount_table.h"
#include "images/schema/files.pb.h"
#include "kernel/event_files.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

// What the kernel notes in the flags of a group that was made without privileges (5.13); its events tell less.
constexpr std::uint32_t kUnprivileged = 0x8000'0000;
// FAN_MARK_IGNORED_SURV_MODIFY, FAN_MARK_EVICTABLE (5.19), FAN_MARK_IGNORE (6.0): what fdinfo tells of a mark.
constexpr std::uint32_t kSurvivesChanges = 0x40, kEvictable = 0x200, kIgnore = 0x400;
// FAN_OPEN_PERM, FAN_ACCESS_PERM, FAN_OPEN_EXEC_PERM (5.0), FAN_PRE_ACCESS (6.14).
constexpr std::uint32_t kPermissionEvents = 0x10000 | 0x20000 | 0x40000 | 0x100000;

Result<> save_mark(const FanotifyMark& mark, const OpenFile& file, FilesSaver& saver, pb::fanotify_mark_entry* to) {
  to->set_mflags(mark.flags);
  to->set_mask(mark.mask);
  to->set_ignored_mask(mark.ignored_mask);
  if (((mark.mask | mark.ignored_mask) & kPermissionEvents) != 0)
    return fail(file.blocked("decides who may open or read files, and who waits for its answers cannot be saved",
                             "close it before the checkpoint"));
  if (mark.inode) {
    to->set_type(pb::INODE);
    to->set_s_dev(mark.inode->device);
    to->mutable_ie()->set_i_ino(TRY(save_watched(*mark.inode, file, saver, to->mutable_ie()->mutable_f_handle())));
    return {};
  }
  if (!mark.mount_id)
    return fail(file.blocked("marks more than inodes and mounts (a file system, a mount namespace), which the image "
                             "format has no place for", "remove the mark, or mark the mounts of the file system"));
  const proc::MountInfo* const mount = saver.mounts().by_id(*mark.mount_id);
  if (mount == nullptr)
    return fail(file.blocked(format("marks mount {}, which is none of the container's", *mark.mount_id),
                             "remove the mark before the checkpoint"));
  to->set_type(pb::MOUNT);
  to->set_s_dev(device_of(*mount));
  to->mutable_me()->set_mnt_id(*mark.mount_id);
  to->mutable_me()->set_path(mount->mount_point);
  return {};
}

Result<Fd> find_marked(const pb::fanotify_mark_entry& entry, FilesOpener& opener) {
  if (entry.type() == pb::INODE)
    return find_watched(entry.ie().f_handle(), entry.ie().i_ino(), entry.s_dev(), opener);
  if (!entry.me().has_path())
    return fail(Error::unsupported(format("the image does not tell where mount {} is", entry.me().mnt_id())));
  return TRY_OR(open_below(opener.root(), entry.me().path(), O_PATH), std::move(e).object(entry.me().path()));
}

Result<> set_mark(int fd, const pb::fanotify_mark_entry& entry, FilesOpener& opener) {
  const Fd node = TRY(find_marked(entry, opener));
  const std::string path = format("/proc/self/fd/{}", node.get());
  const unsigned add = FAN_MARK_ADD | (entry.type() == pb::MOUNT ? FAN_MARK_MOUNT : 0u) | (entry.mflags() & kEvictable);
  if (entry.mask() != 0) TRY(sys::fanotify_mark(fd, add, entry.mask(), path));
  if (entry.ignored_mask() == 0) return {};
  const unsigned ignore = (entry.mflags() & kIgnore) != 0 ? kIgnore : static_cast<unsigned>(FAN_MARK_IGNORED_MASK);
  return sys::fanotify_mark(fd, add | ignore | (entry.mflags() & kSurvivesChanges), entry.ignored_mask(), path);
}

}  // namespace

std::optional<FanotifyGroup> parse_fanotify_group(std::string_view line) {
  if (!consume_prefix(line, "fanotify flags:")) return std::nullopt;
  const auto flags = parse_number<std::uint32_t>(take_until(line, ' '), 16);
  if (!consume_prefix(line, "event-flags:")) return std::nullopt;
  const auto event_flags = parse_number<std::uint32_t>(line, 16);
  if (!flags || !event_flags) return std::nullopt;
  return FanotifyGroup{*flags, *event_flags};
}

std::optional<FanotifyMark> parse_fanotify_mark(std::string_view line) {
  if (!consume_prefix(line, "fanotify ")) return std::nullopt;
  const auto words = parse_watch_words(line);
  if (!words || !words->has("mask") || !words->has("ignored_mask")) return std::nullopt;
  FanotifyMark mark;
  mark.flags = static_cast<std::uint32_t>(words->number("mflags"));
  mark.mask = static_cast<std::uint32_t>(words->number("mask"));
  mark.ignored_mask = static_cast<std::uint32_t>(words->number("ignored_mask"));
  if (words->has("ino")) mark.inode = words->inode();
  else if (words->has("mnt_id")) mark.mount_id = static_cast<std::uint32_t>(words->number("mnt_id"));
  return mark;
}

int FanotifyFile::type() const { return pb::FANOTIFY; }

bool FanotifyFile::matches(const OpenFile& file) const { return file.link == "anon_inode:[fanotify]"; }

Result<> FanotifyFile::save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) {
  pb::file_entry record;
  record.set_type(pb::FANOTIFY);
  record.set_id(id);
  pb::fanotify_file_entry* entry = record.mutable_ffy();
  entry->set_id(id);
  entry->set_flags(file.flags);
  saver.fill_owner(file, entry->mutable_fown());
  std::optional<FanotifyGroup> group;
  for (const std::string& line : file.info.rest) {
    if (!line.starts_with("fanotify ")) continue;
    if (!group) {
      group = parse_fanotify_group(line);
      if (group) continue;
    }
    const auto mark = parse_fanotify_mark(line);
    if (!mark || !group) return fail(file.blocked(format("has a mark that is told in an unknown way: '{}'", line),
                                                  "this kernel is too new for this version"));
    pb::fanotify_mark_entry* saved = entry->add_mark();
    saved->set_id(id);
    TRY(save_mark(*mark, file, saver, saved));
  }
  if (!group) return fail(file.blocked("is not told of by this kernel", "close it before the checkpoint"));
  if ((group->flags & kUnprivileged) != 0)
    return fail(file.blocked("was made without privileges, which the engine has", "use inotify, or give it CAP_SYS_ADMIN"));
  entry->set_faflags(group->flags);
  entry->set_evflags(group->event_flags);
  TRY(note_unread_events(file, saver));
  return saver.write(record);
}

Result<Fd> FanotifyFile::open(const pb::file_entry& record, FilesOpener& opener) {
  const pb::fanotify_file_entry& entry = record.ffy();
  const std::string object = format("fanotify of open file {}", entry.id());
  Fd file = TRY_OR(sys::fanotify_init(entry.faflags(), entry.evflags()), std::move(e).object(object));
  TRY_OR(opener.set_owner_and_flags(file.get(), entry.fown(), entry.flags()), std::move(e).object(object));
  waiting_[entry.id()] = TRY(sys::duplicate(file.get()));
  return file;
}

Result<> FanotifyFile::refill(FilesOpener& opener) {
  for (const auto& [id, file] : waiting_)
    for (const auto& mark : opener.context().image.files.at(id).ffy().mark())
      TRY_OR(set_mark(file.get(), mark, opener), std::move(e).object(format("fanotify of open file {}", id)));
  waiting_.clear();
  return {};
}

}  // namespace dormouse::engine
