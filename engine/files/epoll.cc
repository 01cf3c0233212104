#include "engine/files/epoll.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "base/format.h"
#include "base/text.h"
#include "engine/files/open_file.h"
#include "engine/files/opener.h"
#include "engine/files/saver.h"
#include "images/schema/files.pb.h"
#include "kernel/event_files.h"
#include "kernel/file.h"
#include "kernel/process.h"

namespace dormouse::engine {
namespace {

// "tfd:        5 events:       19 data:        5  pos:0 ino:61 sdev:7"
struct WatchLine {
  unsigned target = 0;
  std::uint32_t events = 0;
  std::uint64_t data = 0, inode = 0;
  std::int64_t pos = 0;
  std::uint32_t device = 0;  // the kernel's encoding
};

std::optional<WatchLine> parse_watch(std::string_view line) {
  // The values are padded with blanks, so keys and values alternate either as "key:value" or "key:" "value".
  std::vector<std::string_view> words;
  for (std::string_view word : split_blanks(line)) {
    const std::string_view key = take_until(word, ':');
    words.push_back(key);
    if (!word.empty()) words.push_back(word);
  }
  if (words.size() != 12) return std::nullopt;
  const auto text = [&](std::size_t i, std::string_view key) { return words[2 * i] == key ? words[2 * i + 1] : ""; };
  const auto target = parse_number<unsigned>(text(0, "tfd"));
  const auto events = parse_number<std::uint32_t>(text(1, "events"), 16);
  const auto data = parse_number<std::uint64_t>(text(2, "data"), 16);
  const auto pos = parse_number<std::int64_t>(text(3, "pos"));
  const auto inode = parse_number<std::uint64_t>(text(4, "ino"), 16);
  const auto device = parse_number<std::uint32_t>(text(5, "sdev"), 16);
  if (!target || !events || !data || !pos || !inode || !device) return std::nullopt;
  return WatchLine{*target, *events, *data, *inode, *pos, *device};
}

// The watched file as the kernel names it: the nth watch of that number of that epoll descriptor.
struct Watched {
  const OpenFile& epoll;
  unsigned target;
  unsigned nth;

  bool is(int number) const {
    const pid_t pid = epoll.task->agent();
    const auto order = sys::kcmp_epoll(pid, static_cast<unsigned>(number), pid,
                                       static_cast<unsigned>(epoll.number), target, nth);
    return order && *order == 0;  // EBADF: there is no such descriptor any more
  }
};

// A number under which the task has the watched file. Usually the one it was added with; but that may be
// closed, or reused, while a duplicate keeps the file and the watch alive.
Result<std::optional<int>> find_number(const Watched& watched) {
  if (watched.is(static_cast<int>(watched.target))) return static_cast<int>(watched.target);
  const auto entries = TRY(sys::list_directory(watched.epoll.task->proc.get(), "fd"));
  for (const auto& entry : entries) {
    const auto number = parse_number<int>(entry.name);
    if (number && watched.is(*number)) return *number;
  }
  return std::nullopt;
}

}  // namespace

int EpollFile::type() const { return pb::EVENTPOLL; }

bool EpollFile::matches(const OpenFile& file) const { return file.link == "anon_inode:[eventpoll]"; }

Result<> EpollFile::save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) {
  pb::file_entry record;
  record.set_type(pb::EVENTPOLL);
  record.set_id(id);
  pb::eventpoll_file_entry* entry = record.mutable_epfd();
  entry->set_id(id);
  entry->set_flags(file.flags);
  saver.fill_owner(file, entry->mutable_fown());
  std::map<unsigned, unsigned> seen;  // how many watches of a number there were already
  for (const std::string& line : file.info.rest) {
    if (!line.starts_with("tfd:")) continue;
    const auto watch = parse_watch(line);
    // A watch belongs to a number of a task's table; this one's task has the epoll in no table.
    if (file.carried)
      return fail(file.blocked("is on its way through a socket, and what it watches cannot be saved yet",
                               "let it arrive before the checkpoint"));
    if (!watch) return fail(file.blocked(format("has a watch that is told in an unknown way: '{}'", line),
                                         "this kernel is too new for this version"));
    const Watched watched{file, watch->target, seen[watch->target]++};
    const auto number = TRY_OR(find_number(watched), file.failed(std::move(e)));
    if (!number)
      return fail(file.blocked(format("watches a file that was added as descriptor {}, and that the task itself has no "
                                      "descriptor of any more", watch->target),
                               "remove the watch (EPOLL_CTL_DEL) before closing the descriptor"));
    pb::eventpoll_tfd_entry* saved = entry->add_tfd();
    saved->set_id(id);
    saved->set_tfd(static_cast<std::uint32_t>(*number));
    saved->set_events(watch->events);
    saved->set_data(watch->data);
    saved->set_dev(watch->device);
    saved->set_inode(watch->inode);
    saved->set_pos(static_cast<std::uint64_t>(watch->pos));
  }
  return saver.write(record);
}

Result<Fd> EpollFile::open(const pb::file_entry& record, FilesOpener& opener) {
  const pb::eventpoll_file_entry& entry = record.epfd();
  Fd file = TRY(sys::epoll_create());
  TRY_OR(opener.set_owner_and_flags(file.get(), entry.fown(), entry.flags()),
         std::move(e).object(format("epoll of open file {}", entry.id())));
  return file;
}

std::map<std::uint32_t, std::vector<EpollWatch>> epoll_watches(const Image& image) {
  // Where each instance and each number is: tables in ascending order of files_id.
  std::map<std::uint32_t, std::map<std::uint32_t, int>> instances;  // file id -> files_id -> descriptor
  std::map<std::uint32_t, std::set<std::uint32_t>> numbers;         // files_id -> descriptors
  for (const auto& [files_id, table] : image.descriptors)
    for (const auto& slot : table) {
      numbers[files_id].insert(slot.fd());
      if (slot.type() == pb::EVENTPOLL) instances[slot.id()].try_emplace(files_id, static_cast<int>(slot.fd()));
    }
  std::map<std::uint32_t, std::vector<EpollWatch>> watches;
  for (const auto& [id, places] : instances) {
    const auto record = image.files.find(id);
    if (record == image.files.end()) continue;
    for (const auto& saved : record->second.epfd().tfd()) {
      const auto place = std::ranges::find_if(
          places, [&](const auto& each) { return numbers[each.first].contains(saved.tfd()); });
      if (place == places.end()) continue;
      watches[place->first].push_back(
          {place->second, static_cast<int>(saved.tfd()), saved.events(), saved.data()});
    }
  }
  return watches;
}

}  // namespace dormouse::engine
