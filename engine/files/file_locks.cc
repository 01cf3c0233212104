#include "engine/files/file_locks.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "base/format.h"
#include "base/text.h"
#include "engine/files/open_file.h"
#include "engine/files/paths.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

constexpr std::string_view kRelease = "release it before the checkpoint";

bool is_of_table(const proc::FileLock& lock) { return lock.kind == proc::LockKind::kPosix; }

const ImageTask* task_of(const pb::file_lock_entry& lock, const Image& image) {
  const auto found = std::ranges::find_if(image.tasks, [&](const ImageTask& task) {
    return task.alive() && static_cast<std::int32_t>(task.tree.pid()) == lock.pid();
  });
  return found == image.tasks.end() ? nullptr : &*found;
}

const pb::fdinfo_entry* descriptor_of(const pb::file_lock_entry& lock, const Image& image) {
  const ImageTask* const task = task_of(lock, image);
  const auto table = task != nullptr ? image.descriptors.find(task->ids.files_id()) : image.descriptors.end();
  if (table == image.descriptors.end()) return nullptr;
  const auto found = std::ranges::find_if(
      table->second, [&](const auto& entry) { return static_cast<std::int32_t>(entry.fd()) == lock.fd(); });
  return found == table->second.end() ? nullptr : &*found;
}

std::string range_of(const pb::file_lock_entry& lock) {
  if (lock.flag() & (kFlock | kLease)) return "";
  if (lock.len() == 0) return format(" from byte {} on", lock.start());
  return format(" of bytes {} to {}", lock.start(), lock.start() + lock.len() - 1);
}

}  // namespace

// --- dump -----------------------------------------------------------------------------------------

pb::file_lock_entry lock_to_image(const proc::FileLock& lock) {
  static constexpr std::uint32_t kFlags[] = {kPosixLock, kFlock, kOfdLock, kLease};  // in the order of LockKind
  pb::file_lock_entry entry;
  entry.set_flag(kFlags[static_cast<std::size_t>(lock.kind)]);
  entry.set_type(static_cast<std::uint32_t>(lock.type) | (lock.breaking ? kLeaseBreaking : 0));
  entry.set_start(lock.first);
  entry.set_len(lock.last == proc::FileLock::kEnd ? 0 : lock.last - lock.first + 1);
  return entry;
}

// Who set it, among the tasks that have the table of this descriptor.
const Task* LocksDump::setter(const OpenFile& file, const proc::FileLock& lock) const {
  const auto& tasks = context_.tree.tasks;
  const auto found = std::ranges::find_if(tasks, [&](const auto& task) {
    return task->alive() && task->pid == lock.pid && task->files_id == file.task->files_id;
  });
  return found == tasks.end() || file.carried ? nullptr : found->get();
}

bool has_lease_against_reading(const OpenFile& file) {
  return std::ranges::any_of(file.info.rest, [](std::string_view line) {
    if (!consume_prefix(line, "lock:")) return false;
    const auto lock = proc::parse_lock(trim(line));
    // Of one that is being broken `type` is what it is going to be.
    return !lock || (lock->kind == proc::LockKind::kLease && (lock->type == F_WRLCK || lock->breaking));
  });
}

Result<> LocksDump::note(const OpenFile& file, std::uint32_t id) {
  for (std::string_view line : file.info.rest) {
    if (!consume_prefix(line, "lock:")) continue;
    const auto lock = proc::parse_lock(trim(line));
    if (!lock)
      return fail(file.blocked(format("is locked in a way that is not known: '{}'", trim(line)), std::string(kRelease)));
    TRY(note(file, id, *lock));
  }
  return {};
}

Result<> LocksDump::note(const OpenFile& file, std::uint32_t id, const proc::FileLock& lock) {
  if (!context_.options.file_locks)
    return fail(file.blocked("holds a lock on the file", "have locks saved, and set again: --file-locks"));
  const std::uint32_t holder = is_of_table(lock) ? file.task->files_id : id;
  Saved& saved = locks_[{lock.kind, holder, lock.file, lock.first}];
  const bool is_new = !saved.entry.has_flag();
  if (is_new) saved.entry = lock_to_image(lock);
  if (file.carried) {
    if (is_new) saved.lost = file.blocked("is locked, and in no process's table", std::string(kRelease));
    return {};
  }
  // It may have ended, and left the lock to those who share what it is of.
  const Task* const by = setter(file, lock);
  const bool fits = by != nullptr;
  if (!is_new && !saved.lost && (saved.fits || !fits)) return {};
  saved.entry.set_pid(by != nullptr ? by->ns_pid : file.task->ns_pid);
  saved.entry.set_fd(file.number);
  saved.fits = fits;
  saved.lost.reset();
  return {};
}

Result<> LocksDump::finish() {
  if (locks_.empty()) return {};
  images::Writer writer = TRY(context_.out.create(images::kFileLocks));
  for (auto& [key, saved] : locks_) {
    if (saved.lost) context_.blockers.add(std::move(*saved.lost));
    else TRY(writer.append(saved.entry));
  }
  return writer.finish();
}

// --- restore --------------------------------------------------------------------------------------

Result<> check_lock(const pb::file_lock_entry& lock, const Image& image) {
  const auto corrupt = [&](std::string reason) {
    return fail(Error::corrupt(std::move(reason)).object(format("lock of descriptor {} of task {}", lock.fd(), lock.pid())));
  };
  const std::uint32_t flag = lock.flag(), breaking = flag == kLease ? kLeaseBreaking : 0;
  const std::uint32_t type = lock.type() & ~breaking;
  if (flag != kPosixLock && flag != kFlock && flag != kOfdLock && flag != kLease)
    return corrupt(format("{:x} is no kind of lock", flag));
  if (type != F_RDLCK && type != F_WRLCK && !(type == F_UNLCK && (lock.type() & breaking) != 0))
    return corrupt(format("type {:x} is not known", lock.type()));
  if (type == F_WRLCK && (lock.type() & breaking) != 0) return corrupt("a lease cannot be broken to a write lease");
  if (lock.start() < 0 || lock.len() < 0 || lock.start() > INT64_MAX - lock.len())
    return corrupt(format("{} bytes at {} are no range", lock.len(), lock.start()));
  if (descriptor_of(lock, image) == nullptr) return corrupt("there is no such descriptor of a living task");
  return {};
}

std::uint32_t file_of_lock(const pb::file_lock_entry& lock, const Image& image) { return descriptor_of(lock, image)->id(); }

void append_lock(parasite::Program& program, const pb::file_lock_entry& lock, const std::string& path, std::uint32_t uid,
                 bool writable) {
  const std::string label = format("set the lock{} on {} with descriptor {}", range_of(lock), path, lock.fd());
  if (lock.flag() == kFlock) {
    program.call(label, SYS_flock, {lock.fd(), (lock.type() == F_RDLCK ? LOCK_SH : LOCK_EX) | LOCK_NB});
    return;
  }
  if (lock.flag() == kLease) {
    // What it was before it was to be broken is not known where the file is only read: then a write lease is one that
    // may become a read lease.
    const std::uint32_t type = (lock.type() & kLeaseBreaking) == 0           ? lock.type()
                               : writable || lock.type() != (F_UNLCK | kLeaseBreaking) ? F_WRLCK
                                                                             : F_RDLCK;
    // Only the file's owner may take one, and who has CAP_LEASE in the first user namespace.
    program.call("", SYS_setfsuid, {uid}, parasite::anything());
    program.call(label, SYS_fcntl, {lock.fd(), F_SETLEASE, type});
    program.call("", SYS_setfsuid, {0}, parasite::anything());
    return;
  }
  struct flock range{};
  range.l_type = static_cast<short>(lock.type());
  range.l_whence = SEEK_SET;
  range.l_start = lock.start();
  range.l_len = lock.len();
  program.call(label, SYS_fcntl, {lock.fd(), lock.flag() == kOfdLock ? F_OFD_SETLK : F_SETLK, program.value(range)});
}

// The holder was told before the checkpoint, and is not to be told again: the signal goes to the engine, as one
// that nobody minds.
Result<> break_lease(int fd, const pb::file_lock_entry& lock) {
  ::f_owner_ex self{F_OWNER_PID, ::getpid()};
  TRY(sys::fcntl(fd, F_SETSIG, SIGURG));
  TRY(sys::fcntl_pointer(fd, F_SETOWN_EX, &self));
  const bool may_read = (lock.type() & ~kLeaseBreaking) == F_RDLCK;
  const auto opened = reopen(fd, (may_read ? O_RDONLY : O_WRONLY) | O_NONBLOCK);
  if (opened) return fail(Error::unsupported("opening the file does not break the lease"));
  if (!opened.error().is_kernel(EAGAIN)) return fail(opened.error());
  return {};
}

}  // namespace dormouse::engine
