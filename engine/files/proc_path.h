// Paths of /proc: whose they are, and what of a process that is gone can be opened again.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "kernel/proc/mountinfo.h"

namespace dormouse::engine {

struct OpenFile;
class FilesSaver;

struct ProcPath {
  pid_t pid = 0;     // as this mount of proc numbers processes: of a process, or of a thread
  std::string file;  // below its directory; "": that one itself
};
// Nothing: the file belongs to no process. `path` is at or below the mount's mount point.
std::optional<ProcPath> parse_proc_path(std::string_view path, const proc::MountInfo& mount);

// The descriptor that "…/PID/fdinfo/N" or "…/PID/fd/N" (or one below "…/PID/task/TID") is about. Nothing: none of these.
struct ToldDescriptor {
  pid_t pid = 0;
  std::uint32_t number = 0;
};
std::optional<ToldDescriptor> descriptor_told_of(std::string_view path);

// Whether a process that has nothing but its number has such a file too.
bool every_process_has(const ProcPath& path);

// Of an open file of /proc under `path` (without a mark that it is deleted): the number of the process if it is gone
// and the file is one that comes back with a process of that number; 0: it can be opened as it is. What cannot be
// opened again is an error.
Result<pid_t> former_owner(const OpenFile& file, const std::string& path, const FilesSaver& saver);

}  // namespace dormouse::engine
