#include "engine/files/fifo.h"

#include <fcntl.h>
#include <linux/magic.h>

#include "base/format.h"
#include "engine/files/open_file.h"
#include "engine/files/opener.h"
#include "engine/files/paths.h"
#include "engine/files/saver.h"
#include "images/schema/files.pb.h"
#include "kernel/file.h"

namespace dormouse::engine {

int FifoFile::type() const { return pb::FIFO; }

bool FifoFile::matches(const OpenFile& file) const {
  return S_ISFIFO(file.stat.st_mode) && file.fs_type != PIPEFS_MAGIC && !file.path_only();
}

Result<> FifoFile::save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) {
  pb::file_entry record;
  record.set_type(pb::FIFO);
  record.set_id(id);
  pb::fifo_entry* entry = record.mutable_fifo();
  entry->set_id(id);
  entry->set_pipe_id(static_cast<std::uint32_t>(file.stat.st_ino));
  entry->set_regf_id(TRY(saver.paths().save(file, saver)));
  TRY_OR(contents_.save(file, entry->pipe_id(), saver.context().out), file.failed(std::move(e)));
  return saver.write(record);
}

Result<Fd> FifoFile::open(const pb::file_entry& record, FilesOpener& opener) {
  const pb::fifo_entry& entry = record.fifo();
  // Images of old versions use one id for both records.
  const auto& path = *TRY(opener.path_entry(entry.has_regf_id() ? entry.regf_id() : entry.id()));
  const std::string object = format("fifo {}", path.name());
  const Fd found = TRY(opener.locate(path));
  const auto now = TRY_OR(sys::fstat(found.get()), std::move(e).object(object));
  if (!S_ISFIFO(now.st_mode)) return fail(Error::conflict("it is no fifo any more", ESTALE).object(object));

  auto both = restored_.find(entry.pipe_id());
  if (both == restored_.end()) {
    Fd fd = TRY_OR(reopen(found.get(), O_RDWR | O_NONBLOCK), std::move(e).object(object));
    both = restored_.emplace(entry.pipe_id(), std::move(fd)).first;
  }
  const int mode = static_cast<int>(path.flags()) & O_ACCMODE;
  Fd file = TRY_OR(reopen(found.get(), mode | O_NONBLOCK), std::move(e).object(object));
  TRY_OR(opener.set_owner_and_flags(file.get(), path.fown(), path.flags()), std::move(e).object(object));
  return file;
}

Result<> FifoFile::refill(FilesOpener& opener) {
  if (restored_.empty()) return {};
  const auto contents = TRY(PipeContents::load(opener.context().in, images::kFifoData));
  for (const auto& [pipe_id, both_ends] : restored_)
    if (const auto* content = contents.of(pipe_id))
      TRY_OR(fill_pipe(both_ends.get(), *content), std::move(e).object(format("fifo with inode {}", pipe_id)));
  return {};
}

}  // namespace dormouse::engine
