#include "engine/files/registry.h"

#include <algorithm>

#include "base/format.h"
#include "engine/files/epoll.h"
#include "engine/files/eventfd.h"
#include "engine/files/fanotify.h"
#include "engine/files/fifo.h"
#include "engine/files/inotify.h"
#include "engine/files/memfd.h"
#include "engine/files/namespace_file.h"
#include "engine/files/pidfd.h"
#include "engine/files/pipe.h"
#include "engine/files/regular_file.h"
#include "engine/files/signalfd.h"
#include "engine/files/terminal.h"
#include "engine/files/timerfd.h"
#include "engine/files/unix_socket.h"

namespace dormouse::engine {

Result<Fd> FileKind::open_as(const pb::file_entry&, std::uint32_t, FilesOpener&) {
  return fail(Error::corrupt(format("a {} cannot be mapped or executed", name())));
}

FileKinds all_file_kinds() {
  FileKinds kinds;
  // Memory looks like a deleted file of the root directory.
  kinds.push_back(std::make_unique<MemfdFile>());
  // Regular files then: they are most of what is open, and an O_PATH descriptor of anything is one.
  kinds.push_back(std::make_unique<RegularFile>());
  kinds.push_back(std::make_unique<PipeFile>());
  kinds.push_back(std::make_unique<FifoFile>());
  kinds.push_back(std::make_unique<TerminalFile>());
  kinds.push_back(std::make_unique<EventFile>());
  kinds.push_back(std::make_unique<SignalFile>());
  kinds.push_back(std::make_unique<TimerFile>());
  kinds.push_back(std::make_unique<EpollFile>());
  kinds.push_back(std::make_unique<InotifyFile>());
  kinds.push_back(std::make_unique<FanotifyFile>());
  kinds.push_back(std::make_unique<PidFile>());
  kinds.push_back(std::make_unique<NamespaceFile>());
  kinds.push_back(std::make_unique<UnixSocketFile>());
  return kinds;
}

FileKind* kind_of(const FileKinds& kinds, const OpenFile& file) {
  const auto found = std::ranges::find_if(kinds, [&](const auto& kind) { return kind->matches(file); });
  return found == kinds.end() ? nullptr : found->get();
}

FileKind* kind_of_type(const FileKinds& kinds, int type) {
  const auto found = std::ranges::find_if(kinds, [&](const auto& kind) { return kind->type() == type; });
  return found == kinds.end() ? nullptr : found->get();
}

}  // namespace dormouse::engine
