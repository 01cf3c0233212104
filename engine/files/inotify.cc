#include "engine/files/inotify.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>

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

void fill_handle(const InotifyWatch& watch, pb::fh_entry* to) {
  to->set_bytes(static_cast<std::uint32_t>(watch.handle.size()));
  to->set_type(static_cast<std::uint32_t>(watch.handle_type));
  std::vector<std::uint64_t> words(std::max<std::size_t>(pb::min_entries, (watch.handle.size() + 7) / 8));
  std::memcpy(words.data(), watch.handle.data(), watch.handle.size());
  for (const std::uint64_t word : words) to->add_handle(word);
}

// What a watch without a path is of: a file without a name, which is open by now, or one of the root's file system whose
// handle is all that the reference engine saves.
Result<Fd> find_by_number(const pb::inotify_wd_entry& entry, FilesOpener& opener) {
  if (auto nameless = TRY(opener.locate_nameless(entry.i_ino(), entry.s_dev()))) return std::move(*nameless);
  const pb::fh_entry& saved = entry.f_handle();
  if (saved.bytes() > MAX_HANDLE_SZ || saved.bytes() > static_cast<std::size_t>(saved.handle_size()) * sizeof(std::uint64_t))
    return fail(Error::corrupt(format("a file handle of {} bytes has {} words", saved.bytes(), saved.handle_size())));
  std::vector<std::uint8_t> handle(saved.bytes());
  if (!handle.empty()) std::memcpy(handle.data(), saved.handle().data(), handle.size());
  const Fd file_system = TRY(open_below(opener.root(), "/", O_RDONLY | O_DIRECTORY));
  auto node = sys::open_by_handle_at(file_system.get(), static_cast<int>(saved.type()), handle, O_PATH);
  if (node && TRY(sys::fstat(node->get())).st_ino == entry.i_ino()) return std::move(*node);
  return fail(Error::unsupported(format("the image does not tell the path of the watched inode {}, and the root's file "
                                        "system does not have it", entry.i_ino()))
                  .remedy("make the checkpoint with --force-irmap"));
}

Result<Fd> find_watched(const pb::inotify_wd_entry& entry, FilesOpener& opener) {
  if (!entry.f_handle().has_path()) return find_by_number(entry, opener);
  const std::string& path = entry.f_handle().path();
  const std::string absolute = path.starts_with('/') ? path : "/" + path;
  return TRY_OR(open_below(opener.root(), absolute, O_PATH | O_NOFOLLOW), std::move(e).object(absolute));
}

Result<> add_watch(int fd, const pb::inotify_wd_entry& entry, FilesOpener& opener) {
  const Fd node = TRY(find_watched(entry, opener));
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
    const auto path = TRY_OR(path_of_watched(*watch, saver), file.failed(std::move(e)));
    std::optional<std::uint64_t> nameless;
    if (!path) nameless = TRY_OR(held_without_name(*watch, saver), file.failed(std::move(e)));
    if (!path && !nameless)
      return fail(file.blocked(format("watches inode {} of device {:x}, whose path could not be found", watch->inode,
                                      watch->device),
                               "remove the watch, keep the watched file open, or say where to search: --irmap-scan-path DIR"));
    pb::inotify_wd_entry* saved = entry->add_wd();
    saved->set_id(id);
    saved->set_wd(watch->number);
    saved->set_i_ino(nameless.value_or(watch->inode));
    saved->set_s_dev(watch->device);
    saved->set_mask(watch->mask);
    saved->set_ignored_mask(watch->ignored_mask);
    fill_handle(*watch, saved->mutable_f_handle());
    if (path) saved->mutable_f_handle()->set_path(*path);
  }
  int unread = 0;
  TRY_OR(sys::ioctl(file.fd.get(), FIONREAD, &unread), file.failed(std::move(e)));
  if (unread > 0)
    saver.context().log.info("{} of {}: {} bytes of unread events are not saved", file.object(), file.task->name(),
                             unread);
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
