// Brings the tasks' cgroups back: makes missing groups, sets their properties, puts tasks into them.
//
// The steps, in this order:
//   make()              the image against this node, without changing anything
//   prepare()           groups are there, with what must be set while they are empty
//   place(…)            for each task that was not born where it belongs
//   apply_properties()  limits, once nothing expensive is left to do
//   apply_freezer()     a container that was paused is paused again; before its tasks are let go
//   commit()            until then, destruction takes everything back (the tasks must be gone by then)
//
// A runtime that has made the groups itself and started the engine inside of them (runc does) pays for a
// look at each group: nothing has to be written and nobody has to be moved.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "cgroups/layout.h"
#include "cgroups/options.h"
#include "cgroups/plan.h"

namespace dormouse::pb {
class cgroup_entry;
}

namespace dormouse::cgroups {

enum class Moment : unsigned char;

struct RestoreOptions {
  Mode mode = Mode::kSoft;
  std::vector<RootOverride> roots;
  std::uint32_t own_set = 0;  // inventory.img's root_cg_set: the set that means "where the engine is"
};

// A place in the hierarchies: a saved set, or the beginning of the cgroup namespace of its tasks.
struct Position {
  std::uint32_t set = 0;  // 0: where the engine is
  bool at_namespace_root = false;
};

class CgroupRestore {
 public:
  // `record` may be null (no cgroup.img, or an empty one): everything below does nothing then, as it does
  // with Mode::kIgnore. `layout` must outlive the result.
  static Result<CgroupRestore> make(Layout& layout, const pb::cgroup_entry* record, RestoreOptions options);
  CgroupRestore(CgroupRestore&& other) noexcept;
  CgroupRestore& operator=(CgroupRestore&&) = delete;
  ~CgroupRestore();  // rollback(), unless committed

  [[nodiscard]] Result<> prepare();

  // Moves a process from where it was born (`from`: usually its parent's place) to where it belongs, in
  // those hierarchies where these differ. Ids are the engine's pid namespace's.
  [[nodiscard]] Result<> place(pid_t pid, Position to, Position from);
  // Moves a single thread of a process that has been placed; only threaded hierarchies know such a thing.
  [[nodiscard]] Result<> place_thread(pid_t tid, Position to, Position from);
  // Whether a set's tasks have a cgroup namespace of their own: place the root task at the namespace's
  // root, have it unshare(CLONE_NEWCGROUP), then place it in its set.
  bool has_namespace(std::uint32_t set) const;
  // For clone3(CLONE_INTO_CGROUP): the v2 directory of `to`, or an empty Fd if that is where `from` is. A task
  // born there needs place() for v1 hierarchies only, which finds v2 done (moving it again is harmless).
  Result<Fd> unified_directory(Position to, Position from);

  [[nodiscard]] Result<> apply_properties();
  [[nodiscard]] Result<> apply_freezer();
  void commit() { armed_ = false; }
  // Old values of properties back, groups that we made away, in reverse order. What could not be undone.
  std::vector<Error> rollback();

 private:
  // A saved group on this node. One saved hierarchy may be several here, if controllers that were
  // mounted together no longer are.
  struct Group {
    const Hierarchy* hierarchy;
    const PlannedHierarchy* saved;
    const PlannedGroup* planned;
    std::string relative;  // path below the hierarchy's top
    bool with_properties = false;
    bool made = false;
  };
  struct Made {
    const Hierarchy* hierarchy;
    std::string relative;
  };
  struct OldValue {
    const Hierarchy* hierarchy;
    std::string relative, name, value;
  };
  struct Target {
    const Hierarchy* hierarchy;
    std::string path;
    bool threaded;
  };

  CgroupRestore(Layout& layout, RestoreOptions options) : layout_(layout), options_(std::move(options)) {}
  bool idle() const { return plan_.sets.empty() || options_.mode == Mode::kIgnore; }
  bool is_own(std::uint32_t set) const { return set == 0 || set == options_.own_set; }
  Result<> resolve();
  Result<> prepare_group(Group& group);
  Result<> make_group(const Group& group);
  Result<> write_all_at(Moment moment);
  Result<> write_properties(const Group& group, Moment moment);
  Result<> write_one(const Group& group, int directory, const PlannedProperty& property);
  Result<std::vector<Target>> targets(Position position) const;
  Result<> move(pid_t id, Position to, Position from, bool thread);

  Layout& layout_;
  RestoreOptions options_;
  Plan plan_;
  std::vector<std::vector<const Hierarchy*>> local_;  // of plan_.hierarchies[i]
  std::vector<Group> groups_;
  std::vector<Made> made_;
  std::vector<OldValue> old_values_;
  bool armed_ = true;
};

}  // namespace dormouse::cgroups
