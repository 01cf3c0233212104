#include "engine/files/regular_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/major.h>
#include <sys/sysmacros.h>

#include "base/format.h"
#include "engine/files/open_file.h"
#include "engine/files/opener.h"
#include "engine/files/saver.h"
#include "images/schema/files.pb.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

constexpr unsigned kKmsgMinor = 11;
constexpr std::uint64_t kNoPosition = ~std::uint64_t{0};

bool is_memory_device(const OpenFile& file) {
  return S_ISCHR(file.stat.st_mode) && major(file.stat.st_rdev) == MEM_MAJOR;
}

// /dev/kmsg opened for writing refuses every seek.
bool is_kmsg_writer(const OpenFile& file) {
  return is_memory_device(file) && minor(file.stat.st_rdev) == kKmsgMinor && file.access_mode() == O_WRONLY;
}

// The path without its slash, as --inherit-fd names it.
std::string_view inherit_key(const pb::reg_file_entry& entry) {
  const std::string_view name = entry.name();
  return entry.ext() || !name.starts_with('/') ? name : name.substr(1);
}

}  // namespace

int RegularFile::type() const { return pb::REG; }

bool RegularFile::matches(const OpenFile& file) const {
  if (!file.link.starts_with('/')) return false;
  const mode_t mode = file.stat.st_mode;
  if (file.fs_type == SECRETMEM_MAGIC) return false;
  return file.path_only() || S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || is_memory_device(file);
}

Result<> RegularFile::save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) {
  return saver.paths().save(file, id, is_kmsg_writer(file) ? kNoPosition : file.pos, saver);
}

Result<Fd> RegularFile::open(const pb::file_entry& record, FilesOpener& opener) {
  const pb::reg_file_entry& entry = record.reg();
  // An inherited descriptor is shared with the caller as it is, position and all.
  if (!entry.ext())
    if (const auto given = opener.inherited(inherit_key(entry))) return sys::duplicate(*given);
  Fd file = TRY(opener.open_path(entry, entry.flags()));
  const bool has_position = (entry.flags() & O_PATH) == 0 && entry.pos() != kNoPosition;
  auto finish = [&]() -> Result<> {
    if (has_position && entry.pos() != 0)
      TRY(sys::lseek(file.get(), static_cast<std::int64_t>(entry.pos()), SEEK_SET));
    return opener.set_owner_and_flags(file.get(), entry.fown(), entry.flags());
  };
  TRY_OR(finish(), std::move(e).object(format("file {}", entry.name())));
  return file;
}

Result<Fd> RegularFile::open_as(const pb::file_entry& record, std::uint32_t flags, FilesOpener& opener) {
  const pb::reg_file_entry& entry = record.reg();
  if (!entry.ext())
    if (const auto given = opener.inherited(inherit_key(entry))) return sys::duplicate(*given);
  return opener.open_path(entry, (entry.flags() & ~std::uint32_t{O_ACCMODE}) | flags);
}

}  // namespace dormouse::engine
