#include "engine/files/signalfd.h"

#include "base/format.h"
#include "engine/files/open_file.h"
#include "engine/files/opener.h"
#include "engine/files/saver.h"
#include "images/schema/files.pb.h"
#include "kernel/event_files.h"

namespace dormouse::engine {

int SignalFile::type() const { return pb::SIGNALFD; }

bool SignalFile::matches(const OpenFile& file) const { return file.link == "anon_inode:[signalfd]"; }

Result<> SignalFile::save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) {
  const auto mask = file.number_in_fdinfo("sigmask", 16);
  if (!mask) return fail(file.blocked("has a mask that the kernel does not tell", "use a newer kernel"));
  pb::file_entry record;
  record.set_type(pb::SIGNALFD);
  record.set_id(id);
  pb::signalfd_entry* entry = record.mutable_sgfd();
  entry->set_id(id);
  entry->set_sigmask(*mask);
  entry->set_flags(file.flags);
  saver.fill_owner(file, entry->mutable_fown());
  return saver.write(record);
}

Result<Fd> SignalFile::open(const pb::file_entry& record, FilesOpener& opener) {
  const pb::signalfd_entry& entry = record.sgfd();
  Fd file = TRY(sys::signalfd(entry.sigmask()));
  TRY_OR(opener.set_owner_and_flags(file.get(), entry.fown(), entry.flags()),
         std::move(e).object(format("signalfd of open file {}", entry.id())));
  return file;
}

}  // namespace dormouse::engine
