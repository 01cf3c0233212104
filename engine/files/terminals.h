// The terminals of a restore, shared by all descriptors on them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace dormouse::pb {
class reg_file_entry;
class tty_file_entry;
class tty_info_entry;
}

namespace dormouse::engine {

class FilesOpener;

class Terminals {
 public:
  // Reads tty-info.img. `opener` outlives this object.
  static Result<std::unique_ptr<Terminals>> load(FilesOpener& opener);
  ~Terminals();

  // A master that exists already, as the mount of a slave (/dev/console) needs one. Before open().
  void adopt_master(std::uint32_t index, Fd master);

  Result<Fd> open(const pb::tty_file_entry& entry);
  // After the last open(): what would have hindered it, and input that was waiting.
  [[nodiscard]] Result<> finish();

  struct Control {
    int fd = -1;               // of the terminal, for TIOCSCTTY; owned by this object
    pid_t foreground_group = 0;  // number in the image
  };
  // Whether it is /dev/tty, the opener's own terminal whatever that is.
  bool is_callers_own(const pb::tty_file_entry& entry) const;
  // The terminal that controls the session with this number in the image.
  Result<std::optional<Control>> controlling(pid_t session);

 private:
  explicit Terminals(FilesOpener& opener);
  Result<const pb::tty_info_entry*> info_of(const pb::tty_file_entry& entry) const;
  std::optional<std::string> master_path(std::uint32_t index) const;
  bool has_master_in_image(std::uint32_t index) const;
  Result<Fd> open_slave(const pb::tty_file_entry& entry, const pb::tty_info_entry& info);
  // The master of that index, made at `ptmx_path` below the root unless it is there.
  Result<int> master(std::uint32_t index, const std::string& ptmx_path);
  Result<Fd> make_master(std::uint32_t index, const std::string& ptmx_path) const;
  Result<> hand_out(int master);
  Result<> open_any(std::uint32_t number);
  Result<> apply_once(int fd, const pb::tty_info_entry& info);
  Result<> write_waiting_input();
  void hang_up();
  std::optional<int> any_end(std::uint32_t number) const;

  FilesOpener& opener_;
  std::map<std::uint32_t, std::unique_ptr<pb::tty_info_entry>> infos_;  // by number
  std::map<std::uint32_t, Fd> masters_;                                 // by index
  std::map<std::uint32_t, Fd> slaves_;   // by number in tty-info.img: one duplicate of each slave or other terminal
  std::set<std::uint32_t> applied_;      // numbers whose settings are back
  std::set<std::uint32_t> handed_out_;   // indices of masters that went to the caller
};

}  // namespace dormouse::engine
