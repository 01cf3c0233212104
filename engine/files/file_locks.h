// Locks that tasks hold on files: those of a descriptor table (POSIX) and those of an open file (flock, OFD locks, leases).
//
// The kernel shows them per descriptor (fdinfo), at those of the open file that the lock was set through, and one of a
// table only to who has that table. Nothing is shown twice but by duplicates: closing any descriptor of a file takes
// the table's locks on it away.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "engine/dump_context.h"
#include "engine/plan/image.h"
#include "images/schema/files.pb.h"
#include "kernel/proc/locks.h"
#include "parasite/host/program.h"

namespace dormouse::engine {

struct OpenFile;

// file_lock_entry.flag
inline constexpr std::uint32_t kPosixLock = 1, kFlock = 2, kOfdLock = 4, kLease = 8;
inline constexpr std::uint32_t kLeaseBreaking = 4;  // in the type of a lease, beside what its holder may keep

class LocksDump {
 public:
  explicit LocksDump(DumpContext& context) : context_(context) {}

  // Locks that show at a descriptor of open file `id`. Every descriptor of all tables, and those in messages.
  [[nodiscard]] Result<> note(const OpenFile& file, std::uint32_t id);
  // After the last: what nobody could set again becomes a blocker, the rest an image.
  [[nodiscard]] Result<> finish();

 private:
  // What makes two lines one lock: kind, holder (a table's number, or an open file's), file, first byte.
  using Key = std::tuple<proc::LockKind, std::uint32_t, std::string, std::int64_t>;
  struct Saved {
    pb::file_lock_entry entry;
    bool fits = false;  // that task has set it itself
    std::optional<Error> lost = {};  // while there is no descriptor to set it with
  };
  [[nodiscard]] Result<> note(const OpenFile& file, std::uint32_t id, const proc::FileLock& lock);
  const Task* setter(const OpenFile& file, const proc::FileLock& lock) const;

  DumpContext& context_;
  std::map<Key, Saved> locks_;
};

// Whether opening the file of this descriptor for reading would break a lease that was set through it.
bool has_lease_against_reading(const OpenFile& file);

// A lock as the reference format has it. Without descriptor and pid.
pb::file_lock_entry lock_to_image(const proc::FileLock& lock);

// Whether the lock makes sense, and is of a living task's descriptor; the reason if not.
Result<> check_lock(const pb::file_lock_entry& lock, const Image& image);
// The open file behind the descriptor of a lock that was checked.
std::uint32_t file_of_lock(const pb::file_lock_entry& lock, const Image& image);

// Sets it, in the task that held it, when its table is complete: nobody may close a descriptor of the file
// afterwards. A lease that is to be broken is set as it was before. `uid`: the file's owner as the task sees it.
void append_lock(parasite::Program& program, const pb::file_lock_entry& lock, const std::string& path, std::uint32_t uid,
                 bool writable);
// A lease that was about to be broken is so again; and whoever is told about the file is the one of before. `fd`: of the
// same open file.
[[nodiscard]] Result<> break_lease(int fd, const pb::file_lock_entry& lock);

}  // namespace dormouse::engine
