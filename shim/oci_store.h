// The containers that this node knows: ours, and (for reading only) runc's.
#pragma once

#include <signal.h>

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "oci/config.h"
#include "oci/runc_state.h"
#include "oci/state.h"
#include "shim/oci_cgroup.h"

namespace dormouse::shim {

inline constexpr const char* kOwnStateRoot = "/run/dormouse";
inline constexpr const char* kRuncStateRoot = "/run/runc";

// A container's init, told from a later process with the same pid by its start time.
struct InitProcess {
  pid_t pid = 0;
  std::uint64_t start_ticks = 0;
};
// Nothing if it has ended (a zombie has).
std::optional<Fd> open_if_alive(const InitProcess& init);
Result<std::uint64_t> start_ticks_of(pid_t pid);

// A container, whoever runs it.
struct Container {
  std::string id, directory;  // of its state
  bool ours = false;
  InitProcess init;
  std::string bundle, created;
  CgroupPaths cgroup_paths;
  std::vector<std::string> external_descriptors;
  oci::Config config;

  bool alive() const { return open_if_alive(init).has_value(); }
  // creating, created, running, paused, stopped
  std::string status() const;
  oci::PublicState public_state() const;
};

// Looks into <root>/<id> for each root; the first that has it counts. Whose it is, its state tells.
Result<std::optional<Container>> look_up_container(const std::vector<std::string>& roots, const std::string& id);
// As above, but that there is none is an error.
Result<Container> find_container(const std::vector<std::string>& roots, const std::string& id);

// The state directory of a container of ours that is being restored. It is removed again by the
// destructor, unless keep().
class StateDirectory {
 public:
  // The id must be new; `config_text` is kept, for what happens after the container's end.
  static Result<StateDirectory> create(const std::string& root, const std::string& id, const std::string& config_text);
  StateDirectory(StateDirectory&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  StateDirectory& operator=(StateDirectory&&) = delete;
  ~StateDirectory();

  const std::string& path() const { return path_; }
  [[nodiscard]] Result<> save(const oci::State& state) const;
  void keep() { path_.clear(); }
  static void remove(const std::string& path) noexcept;

 private:
  explicit StateDirectory(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

// Where the root file system is mounted during a restore.
std::string root_mount_path(const std::string& state_directory);

// Writes a file so that a reader sees all of it or nothing.
[[nodiscard]] Result<> write_atomically(const std::string& path, std::string_view text, mode_t mode);

}  // namespace dormouse::shim
