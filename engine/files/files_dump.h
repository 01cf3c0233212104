// Saving what tasks have open: descriptor tables (fdinfo-N.img) and the objects behind them
// (files.img), each open file once however many descriptors of however many tasks share it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/dump_context.h"
#include "engine/memory/shared_pages.h"
#include "kernel/proc/maps.h"

namespace dormouse::engine {

class MountTable;  // engine/mounts/mount_table.h

class FilesDump {
 public:
  // `mounts`: the mounts of the root task's mount namespace; it outlives this object.
  static Result<FilesDump> begin(DumpContext& context, const MountTable& mounts);
  FilesDump(FilesDump&&) noexcept;
  ~FilesDump();

  // Every descriptor of each task, taken with pidfd_getfd. Descriptors that cannot be saved are added to
  // the context's blockers, and the rest is still examined. The tasks must be stopped.
  [[nodiscard]] Result<> save_tables(std::span<const Task* const> tasks);

  // After the last table: what is in no table, but on its way inside of sockets; then the locks of all files.
  [[nodiscard]] Result<> save_in_flight();

  // A file that a task refers to without a descriptor: its executable, working directory, root, a
  // mapped file. `proc_link` is the magic link relative to /proc/PID: "exe", "cwd", "root",
  // "map_files/400000-401000". Returns the id to store in the referring image. The same inode under the
  // same path and flags gets the same id. `open_flags`: O_RDONLY, O_RDWR (shared writable mapping),
  // O_PATH-like entries for directories are saved as O_RDONLY|O_DIRECTORY regular entries like the
  // reference does.
  Result<std::uint32_t> save_path(const Task& task, const std::string& proc_link, int open_flags);
  // Looks at that link of all these tasks at once, which the next save_path() of each then needs not. Each costs a
  // descriptor until then. Failures are left to save_path().
  void look_ahead(std::span<const Task* const> tasks, const std::string& proc_link, int open_flags);
  // The same of a mapped file, as /proc/PID/maps tells it: asked for once for all that map a file under the same name.
  Result<std::uint32_t> save_mapped(const Task& task, const proc::Vma& vma, int open_flags);

  // Whether shared anonymous memory with that inode is (also) open as a file.
  bool holds_memory(std::uint64_t inode, bool huge) const;
  // Memory that was found open or mapped as a file: its pages are still to be saved.
  const std::vector<MemoryObject>& memory_objects() const;

  // Closes files.img and what belongs to it.
  [[nodiscard]] Result<> finish();
  // The checkpoint is complete. Without this call, names that --link-remap made in the container's file
  // system are removed with this object.
  void keep();

 private:
  struct State;
  explicit FilesDump(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace dormouse::engine
