#include "engine/files/eventfd.h"

#include <sys/eventfd.h>

#include <limits>
#include <span>

#include "base/format.h"
#include "base/text.h"
#include "engine/files/open_file.h"
#include "engine/files/opener.h"
#include "engine/files/saver.h"
#include "images/schema/files.pb.h"
#include "kernel/event_files.h"
#include "kernel/file.h"

namespace dormouse::engine {

int EventFile::type() const { return pb::EVENTFD; }

bool EventFile::matches(const OpenFile& file) const { return file.link == "anon_inode:[eventfd]"; }

Result<> EventFile::save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) {
  const auto counter = file.number_in_fdinfo("eventfd-count", 16);
  if (!counter) return fail(file.blocked("has a counter that the kernel does not tell", "use a newer kernel"));
  pb::file_entry record;
  record.set_type(pb::EVENTFD);
  record.set_id(id);
  pb::eventfd_file_entry* entry = record.mutable_efd();
  entry->set_id(id);
  entry->set_counter(*counter);
  // EFD_SEMAPHORE is not among the open file's flags; /proc has it since Linux 6.5. The bit it takes in the
  // record is one of the access mode, which is always O_RDWR and looked at by nobody.
  const bool semaphore = file.number_in_fdinfo("eventfd-semaphore", 10).value_or(0) != 0;
  entry->set_flags(file.flags | (semaphore ? EFD_SEMAPHORE : 0));
  saver.fill_owner(file, entry->mutable_fown());
  return saver.write(record);
}

Result<Fd> EventFile::open(const pb::file_entry& record, FilesOpener& opener) {
  const pb::eventfd_file_entry& entry = record.efd();
  const std::string object = format("eventfd of open file {}", entry.id());
  if (entry.counter() == std::numeric_limits<std::uint64_t>::max())
    return fail(Error::corrupt("its counter is beyond the limit").object(object));
  Fd file = TRY(sys::eventfd(0, static_cast<int>(entry.flags() & EFD_SEMAPHORE)));
  // Written, since the initial value of eventfd() has only 32 bits.
  const std::uint64_t counter = entry.counter();
  if (counter != 0) TRY_OR(sys::write_all(file.get(), std::as_bytes(std::span(&counter, 1))), std::move(e).object(object));
  TRY_OR(opener.set_owner_and_flags(file.get(), entry.fown(), entry.flags()), std::move(e).object(object));
  return file;
}

}  // namespace dormouse::engine
