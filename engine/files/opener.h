// What the file kinds share while they open: the container's root, deleted files brought back,
// descriptors that the caller gave, owners and flags.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/files/former_process.h"
#include "engine/files/owner.h"
#include "engine/files/user_maps.h"
#include "engine/restore_context.h"

namespace dormouse::pb {
class fown_entry;
class reg_file_entry;
}

namespace dormouse::engine {

class Terminals;  // engine/files/terminals.h

class FilesOpener {
 public:
  ~FilesOpener();

  // `root` as in FilesRestore.
  static Result<std::unique_ptr<FilesOpener>> create(const RestoreContext& context, Fd root);

  const RestoreContext& context() const { return context_; }
  const RestoreOptions& options() const { return context_.options; }
  int root() const { return root_.get(); }

  // The descriptor that the caller wants in the place of what `key` names; it stays the caller's.
  std::optional<int> inherited(std::string_view key) const;

  // The REG record of that id.
  Result<const pb::reg_file_entry*> path_entry(std::uint32_t id) const;
  // What a saved path leads to, as O_PATH: verified to be the file that was saved, and not yet opened.
  // Deleted files are created (once) and deleted again.
  Result<Fd> locate(const pb::reg_file_entry& entry);
  // The file without a name, or with a name that --link-remap gave it, that had this inode number at the checkpoint
  // (`device`, as the kernel encodes it, decides between several), as O_PATH; nothing if the image has none.
  Result<std::optional<Fd>> locate_nameless(std::uint64_t inode, std::uint32_t device);
  // The same as locate(), opened with the given flags (access mode and O_* as the image holds them; what would
  // create or truncate is left out). Position and owner are not set.
  Result<Fd> open_path(const pb::reg_file_entry& entry, std::uint32_t flags);

  // The last steps on every open file: who gets its signals, and the flags that only fcntl() can set.
  [[nodiscard]] Result<> set_owner_and_flags(int fd, const pb::fown_entry& owner, std::uint32_t flags);

  // The terminals of the image, read on first use.
  Result<Terminals*> terminals();

  // What a message in a socket's queue carries, by file id; the descriptor is the table's.
  using FileLookup = std::function<Result<int>(std::uint32_t)>;
  void set_file_lookup(FileLookup lookup) { file_lookup_ = std::move(lookup); }
  Result<int> open_file(std::uint32_t id) { return file_lookup_(id); }

  // The root task: its network namespace is where sockets are made, its user namespace says who owns what.
  [[nodiscard]] Result<> set_root_task(pid_t pid);
  int root_task() const { return root_task_.get(); }  // a pidfd
  int network() const { return root_task_.get(); }
  uid_t uid_outside(uid_t uid) const { return ids_.uids.outside(uid); }
  gid_t gid_outside(gid_t gid) const { return ids_.gids.outside(gid); }
  pid_t pid_of(pid_t ns_pid) const { return pid_lookup_ ? pid_lookup_(ns_pid) : 0; }

  // Without it, files whose signals go to a task cannot be opened.
  void set_pid_lookup(PidLookup lookup) { pid_lookup_ = std::move(lookup); }
  // The restore succeeded: names that --link-remap made for the checkpoint are removed.
  void remove_links();
  // Everything is open: processes that were there for their files of /proc only end again.
  void dismiss_former_processes() { former_.vanish(); }

 private:
  FilesOpener(const RestoreContext& context, Fd root);
  Result<> load_remaps();
  Result<Fd> external(const pb::reg_file_entry& entry) const;
  Result<Fd> ghost(const pb::reg_file_entry& entry, std::uint32_t number);
  Result<Fd> locate_linked(const pb::reg_file_entry& entry, std::uint32_t link_id);

  struct Remap {
    int type = 0;          // remap_type
    std::uint32_t id = 0;  // ghost number or file id
  };
  const RestoreContext& context_;
  Fd root_;
  std::map<std::uint32_t, Remap> remaps_;  // by file id
  std::map<std::uint32_t, Fd> ghosts_;     // by number; O_PATH
  FormerProcesses former_;
  PidLookup pid_lookup_;
  FileLookup file_lookup_;
  Fd root_task_;
  UserMaps ids_;
  std::unique_ptr<Terminals> terminals_;
};

}  // namespace dormouse::engine
