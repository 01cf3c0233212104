#include "engine/files/inotify.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>

#include "base/format.h"
#include "engine/files/open_file.h"
#include "engine/files/opener.h"
#include "engine/files/paths.h"
#include "engine/files/saver.h"
#include "engine/files/watched_inode.h"
#include "images/schema/files.pb.h"
#include "kernel/event_files.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

// INOTIFY_IOC_SETNEXTWD (linux/inotify.h, Linux 4.16): the number of the next watch.
constexpr unsigned long kSetNextWatch = 0x4004'4900;  // _IOW('I', 0, __s32)

Result<> add_watch(int fd, const pb::inotify_wd_entry& entry, FilesOpener& opener) {
  const Fd node = TRY(find_watched(entry.f_handle(), entry.i_ino(), entry.s_dev(), opener));
  const std::string object = format("watch {}", entry.wd());
  // The task knows its watches by number; the kernel counts upwards from what it is told here.
  const auto wanted = static_cast<int>(entry.wd());
  TRY(sys::ioctl(fd, kSetNextWatch, static_cast<std::uintptr_t>(wanted)));
  const int got = TRY_OR(sys::inotify_add_watch(fd, format("/proc/self/fd/{}", node.get()), entry.mask()),
                         std::move(e).object(object));
  if (got != wanted)
    return fail(Error::conflict(format("watch {} of {} got number {}: is the directory watched twice?", wanted,
                                       entry.f_handle().path(), got),
                                EEXIST));
  return {};
}

}  // namespace

int InotifyFile::type() const { return pb::INOTIFY; }

bool InotifyFile::matches(const OpenFile& file) const {
  return file.link == "anon_inode:inotify" || file.link == "anon_inode:[inotify]";
}

Result<> InotifyFile::save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) {
  pb::file_entry record;
  record.set_type(pb::INOTIFY);
  record.set_id(id);
  pb::inotify_file_entry* entry = record.mutable_ify();
  entry->set_id(id);
  entry->set_flags(file.flags);
  saver.fill_owner(file, entry->mutable_fown());
  for (const std::string& line : file.info.rest) {
    if (!line.starts_with("inotify ")) continue;
    const auto watch = parse_inotify_watch(line);
    if (!watch) return fail(file.blocked(format("has a watch that is told in an unknown way: '{}'", line),
                                         "this kernel is too new for this version"));
    pb::inotify_wd_entry* saved = entry->add_wd();
    saved->set_id(id);
    saved->set_wd(watch->number);
    saved->set_i_ino(TRY(save_watched(*watch, file, saver, saved->mutable_f_handle())));
    saved->set_s_dev(watch->device);
    saved->set_mask(watch->mask);
    saved->set_ignored_mask(watch->ignored_mask);
  }
  TRY(note_unread_events(file, saver));
  return saver.write(record);
}

Result<Fd> InotifyFile::open(const pb::file_entry& record, FilesOpener& opener) {
  const pb::inotify_file_entry& entry = record.ify();
  Fd file = TRY(sys::inotify_init());
  TRY_OR(opener.set_owner_and_flags(file.get(), entry.fown(), entry.flags()),
         std::move(e).object(format("inotify of open file {}", entry.id())));
  waiting_[entry.id()] = TRY(sys::duplicate(file.get()));
  return file;
}

Result<> InotifyFile::refill(FilesOpener& opener) {
  for (const auto& [id, file] : waiting_)
    for (const auto& watch : opener.context().image.files.at(id).ify().wd())
      TRY_OR(add_watch(file.get(), watch, opener),
             std::move(e).object(format("inotify of open file {}", id)));
  waiting_.clear();
  return {};
}

}  // namespace dormouse::engine
