#include "engine/files/pipe.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/ioctl.h>

#include "base/format.h"
#include "engine/files/open_file.h"
#include "engine/files/opener.h"
#include "engine/files/paths.h"
#include "engine/files/saver.h"
#include "images/schema/files.pb.h"

namespace dormouse::engine {
namespace {

std::string key_of(const pb::pipe_entry& entry) { return format("pipe:[{}]", entry.pipe_id()); }

// A descriptor of the caller in the place of an end of the pipe: an open file of its own, so that flags
// are not shared with the caller. It need not be a pipe.
Result<Fd> open_inherited(int given, std::uint32_t flags) {
  constexpr std::uint32_t kNotForOpen = O_CREAT | O_EXCL | O_TRUNC | O_DIRECT;
  // O_NONBLOCK: a fifo without its other end must not hold us up. The saved flags are set afterwards.
  auto own = reopen(given, static_cast<int>(flags & ~kNotForOpen) | O_NONBLOCK | O_NOCTTY);
  // A socket, or the only end of a fifo, cannot be opened again.
  if (!own && own.error().is_kernel(ENXIO)) return sys::duplicate(given);
  return own;
}

// A writer with O_DIRECT makes packets: the boundaries of each write count, and the image has no place for
// them.
Result<> refuse_packets(const OpenFile& file) {
  if ((file.flags & O_DIRECT) == 0) return {};
  int held = 0;
  TRY_OR(sys::ioctl(file.fd.get(), FIONREAD, &held), file.failed(std::move(e)));
  if (held == 0) return {};
  return fail(file.blocked(format("is a pipe in packet mode (O_DIRECT) that holds {} bytes", held),
                           "let its reader catch up before the checkpoint"));
}

}  // namespace

int PipeFile::type() const { return pb::PIPE; }

bool PipeFile::matches(const OpenFile& file) const {
  return S_ISFIFO(file.stat.st_mode) && file.fs_type == PIPEFS_MAGIC && !file.path_only();
}

Result<> PipeFile::save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) {
  TRY(refuse_packets(file));
  pb::file_entry record;
  record.set_type(pb::PIPE);
  record.set_id(id);
  pb::pipe_entry* entry = record.mutable_pipe();
  entry->set_id(id);
  entry->set_pipe_id(static_cast<std::uint32_t>(file.stat.st_ino));
  entry->set_flags(file.flags);
  saver.fill_owner(file, entry->mutable_fown());
  TRY_OR(contents_.save(file, entry->pipe_id(), saver.context().out), file.failed(std::move(e)));
  return saver.write(record);
}

Result<Fd> PipeFile::open(const pb::file_entry& record, FilesOpener& opener) {
  const pb::pipe_entry& entry = record.pipe();
  auto open = [&]() -> Result<Fd> {
    if (const auto given = opener.inherited(key_of(entry))) return open_inherited(*given, entry.flags());

    auto [found, is_new] = restored_.try_emplace(entry.pipe_id());
    Restored& pipe = found->second;
    if (is_new) pipe.ends = TRY(sys::pipe2());
    // open() adds O_LARGEFILE and pipe2() does not: that tells which ends came from pipe2().
    const int mode = static_cast<int>(entry.flags()) & O_ACCMODE;
    const bool from_pipe2 = (entry.flags() & O_LARGEFILE) == 0;
    if (from_pipe2 && mode == O_RDONLY && !std::exchange(pipe.read_end_used, true))
      return sys::duplicate(pipe.ends.read_end.get());
    if (from_pipe2 && mode == O_WRONLY && !std::exchange(pipe.write_end_used, true))
      return sys::duplicate(pipe.ends.write_end.get());
    return reopen(pipe.ends.read_end.get(), mode);
  };
  Fd file = TRY_OR(open(), std::move(e).object(key_of(entry)));
  TRY_OR(opener.set_owner_and_flags(file.get(), entry.fown(), entry.flags()), std::move(e).object(key_of(entry)));
  return file;
}

Result<> PipeFile::refill(FilesOpener& opener) {
  if (restored_.empty()) return {};
  const PipeContents contents = TRY(PipeContents::load(opener.context().in, images::kPipesData));
  for (const auto& [pipe_id, pipe] : restored_)
    if (const auto* content = contents.of(pipe_id))
      TRY_OR(fill_pipe(pipe.ends.write_end.get(), *content), std::move(e).object(format("pipe:[{}]", pipe_id)));
  return {};
}

}  // namespace dormouse::engine
