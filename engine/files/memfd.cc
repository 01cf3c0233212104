#include "engine/files/memfd.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <sys/mman.h>

#include <bit>
#include <cerrno>

#include "base/format.h"
#include "engine/files/open_file.h"
#include "engine/files/opener.h"
#include "engine/files/paths.h"
#include "engine/files/saver.h"
#include "engine/memory/shared_memory.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

constexpr std::string_view kPrefix = "/memfd:", kDeleted = " (deleted)";
constexpr std::string_view kSharedAnonymous = "/dev/zero", kHugeAnonymous = "/anon_hugepage";
constexpr std::uint32_t kExec = 0x10, kNoExecSeal = 0x08;  // MFD_EXEC, MFD_NOEXEC_SEAL, Linux 6.3
constexpr std::uint32_t kSealExec = 0x20;                  // F_SEAL_EXEC
constexpr int kHugeShift = 26;                             // MFD_HUGE_SHIFT
constexpr mode_t kPermissions = 07777, kExecutable = 0111;

bool is_huge(const OpenFile& file) { return file.fs_type == HUGETLBFS_MAGIC; }

std::string bare_name(const OpenFile& file) {
  std::string name = file.link;
  if (name.ends_with(kDeleted)) name.resize(name.size() - kDeleted.size());
  return name.starts_with(kPrefix) ? name.substr(kPrefix.size()) : name;
}

std::uint32_t huge_flag(std::uint64_t page_bytes) {
  return MFD_HUGETLB | static_cast<std::uint32_t>(std::countr_zero(page_bytes)) << kHugeShift;
}

Error failed(Error error, const pb::memfd_inode_entry& inode) {
  return std::move(error).object(format("memfd {}", inode.name())).owner("the image");
}

bool is_anonymous(const pb::memfd_inode_entry& inode) {
  return inode.seals() == F_SEAL_SEAL && (inode.name() == kSharedAnonymous || inode.name() == kHugeAnonymous);
}

Result<Fd> create(const pb::memfd_inode_entry& inode) {
  const std::uint32_t huge = inode.hugetlb_flag();
  // It has no other maker than mmap().
  if (is_anonymous(inode)) return make_shared_memory(inode.size(), huge ? MAP_HUGETLB | (huge & ~std::uint32_t{MFD_HUGETLB}) : 0);
  std::uint32_t flags = huge | (inode.seals() == F_SEAL_SEAL ? 0 : MFD_ALLOW_SEALING);
  // Said either way, since what is meant without is a setting of the node (vm.memfd_noexec). One that may be executed can
  // be sealed so as well, later.
  const bool executable = inode.has_mode() && (inode.mode() & kExecutable);
  const std::uint32_t exec = (inode.seals() & kSealExec) && !executable ? kNoExecSeal : kExec;
  auto made = sys::memfd_create(inode.name(), flags | exec);
  if (!made && made.error().is_kernel(EINVAL)) made = sys::memfd_create(inode.name(), flags);
  if (!made) return made;
  TRY(sys::ftruncate(made->get(), inode.size()));
  return made;
}

Result<> set_attributes(int fd, const pb::memfd_inode_entry& inode) {
  TRY(sys::fchownat(fd, "", inode.uid(), inode.gid(), AT_EMPTY_PATH));
  // The seal of what may be executed comes with memfd_create() and forbids changes only to those bits.
  if (inode.has_mode()) TRY(sys::fchmod(fd, inode.mode() & kPermissions));
  return {};
}

}  // namespace

int MemfdFile::type() const { return pb::MEMFD; }

bool MemfdFile::matches(const OpenFile& file) const {
  if (file.stat.st_nlink != 0 || !S_ISREG(file.stat.st_mode) || !mounts_.hold(file.stat.st_dev)) return false;
  return file.link.starts_with(kPrefix) || file.link == std::string(kSharedAnonymous) + std::string(kDeleted) ||
         file.link == std::string(kHugeAnonymous) + std::string(kDeleted);
}

bool MemfdFile::has_saved(std::uint64_t inode, bool huge) const { return saved_.contains({inode, huge}); }

Result<std::uint32_t> MemfdFile::save_object(const OpenFile& file, FilesSaver& saver) {
  const auto [known, is_new] =
      saved_.try_emplace({file.stat.st_ino, is_huge(file)}, static_cast<std::uint32_t>(saved_.size() + 1));
  if (!is_new) return known->second;
  MemoryObject object;
  // Opened again: the task's descriptor may be write-only or a bare path.
  object.file = TRY_OR(reopen(file.fd.get(), O_RDONLY), file.failed(std::move(e)));
  object.size_bytes = static_cast<std::uint64_t>(file.stat.st_size);
  object.shmid = memfd_shmid(known->second);
  if (is_huge(file)) object.page_bytes = static_cast<std::uint64_t>(file.stat.st_blksize);

  pb::memfd_inode_entry inode;
  inode.set_name(bare_name(file));
  inode.set_uid(file.stat.st_uid);
  inode.set_gid(file.stat.st_gid);
  inode.set_size(object.size_bytes);
  inode.set_shmid(static_cast<std::uint32_t>(object.shmid));
  const auto seals = sys::fcntl(object.file.get(), F_GET_SEALS);
  // EINVAL: huge pages before Linux 4.16, which cannot be sealed.
  if (!seals && !seals.error().is_kernel(EINVAL)) return fail(file.failed(seals.error()));
  inode.set_seals(seals ? static_cast<std::uint32_t>(*seals) : F_SEAL_SEAL);
  inode.set_inode_id(known->second);
  if (is_huge(file)) inode.set_hugetlb_flag(huge_flag(object.page_bytes));
  inode.set_mode(file.stat.st_mode);
  if (!inodes_) inodes_ = TRY(saver.context().out.create(images::kMemfdInode));
  TRY(inodes_->append(inode));
  if (object.size_bytes != 0) saver.memory_objects().push_back(std::move(object));
  return known->second;
}

Result<> MemfdFile::save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) {
  pb::file_entry record;
  record.set_type(pb::MEMFD);
  record.set_id(id);
  pb::memfd_file_entry* entry = record.mutable_memfd();
  entry->set_id(id);
  entry->set_flags(file.flags);
  entry->set_pos(file.pos);
  saver.fill_owner(file, entry->mutable_fown());
  entry->set_inode_id(TRY(save_object(file, saver)));
  return saver.write(record);
}

Result<> MemfdFile::finish_saving(FilesSaver&) { return inodes_ ? inodes_->finish() : Result<>{}; }

Result<MemfdFile::Object*> MemfdFile::object_of(const pb::memfd_file_entry& entry, FilesOpener& opener) {
  if (const auto known = objects_.find(entry.inode_id()); known != objects_.end()) return &known->second;
  const Image& image = opener.context().image;
  const auto found = image.memfds.find(entry.inode_id());
  if (found == image.memfds.end()) return fail(Error::corrupt(format("memfd.img has no object {}", entry.inode_id())));
  const pb::memfd_inode_entry& inode = found->second;
  Object object;
  object.file = TRY_OR(create(inode), failed(std::move(e), inode));
  if (const auto pages = image.shmem.find(inode.shmid()); pages != image.shmem.end())
    TRY_OR(fill_shared_memory(object.file.get(), inode.size(), pages->second, opener.context()), failed(std::move(e), inode));
  TRY_OR(set_attributes(object.file.get(), inode), failed(std::move(e), inode));
  object.seals = inode.seals() == F_SEAL_SEAL ? 0 : inode.seals();
  return &objects_.emplace(entry.inode_id(), std::move(object)).first->second;
}

Result<Fd> MemfdFile::open(const pb::file_entry& record, FilesOpener& opener) {
  const pb::memfd_file_entry& entry = record.memfd();
  Object* const object = TRY(object_of(entry, opener));
  const std::string& name = opener.context().image.memfds.at(entry.inode_id()).name();
  if (const auto given = opener.inherited(format("/memfd:{}", name))) return sys::duplicate(*given);
  // memfd_create()'s own descriptor once, since it can be executed while it is open: any other that is open
  // for writing makes that fail (ETXTBSY).
  const bool first = (entry.flags() & O_ACCMODE) == O_RDWR && !(entry.flags() & O_PATH) && !object->handed_out;
  Fd file = first ? TRY(sys::duplicate(object->file.get()))
                  : TRY(reopen(object->file.get(), static_cast<int>(entry.flags() & (O_ACCMODE | O_PATH | O_LARGEFILE))));
  object->handed_out |= first;
  if (entry.flags() & O_PATH) return file;
  auto finish = [&]() -> Result<> {
    TRY(sys::lseek(file.get(), static_cast<std::int64_t>(entry.pos()), SEEK_SET));
    return opener.set_owner_and_flags(file.get(), entry.fown(), entry.flags());
  };
  TRY_OR(finish(), std::move(e).object(format("memfd {}", name)));
  return file;
}

Result<Fd> MemfdFile::open_as(const pb::file_entry& record, std::uint32_t flags, FilesOpener& opener) {
  Object* const object = TRY(object_of(record.memfd(), opener));
  if ((flags & O_ACCMODE) == O_RDWR) return sys::duplicate(object->file.get());
  return reopen(object->file.get(), static_cast<int>(flags & O_ACCMODE));
}

Result<> MemfdFile::refill(FilesOpener& opener) {
  for (const auto& [id, object] : objects_)
    if (object.seals != 0)
      TRY_OR(sys::fcntl(object.file.get(), F_ADD_SEALS, object.seals), failed(std::move(e), opener.context().image.memfds.at(id)));
  return {};
}

}  // namespace dormouse::engine
