// The root task is born: one process in its new namespaces, with its mounts, that has become a puppet.
#pragma once

#include <sys/types.h>

#include <array>

#include "base/fd.h"
#include "engine/mounts/mounts_restore.h"
#include "engine/namespaces/namespaces.h"
#include "engine/restore_context.h"
#include "parasite/host/pipeline.h"

namespace dormouse::engine {

// The sockets over which puppets get descriptors: all of them inherit the same ends, under numbers that no task of the
// image uses. One for each that gets some at a time.
struct ServiceSockets {
  struct Pair {
    Fd ours, theirs;
  };
  std::array<Pair, parasite::Pipeline::kLanes> lanes;
  int first_number = -1;

  int number(std::size_t lane) const { return first_number + static_cast<int>(lane); }
  int last_number() const { return number(lanes.size() - 1); }
  int ours(std::size_t lane) const { return lanes[lane].ours.get(); }
  int theirs(std::size_t lane) const { return lanes[lane].theirs.get(); }
  static Result<ServiceSockets> create(int first_number);
};

// The id that a task must have again belongs to somebody else.
Error pid_taken(pid_t pid);

class Birth {
 public:
  Birth(const RestoreContext& context, parasite::PuppetYard& yard, ServiceSockets& service)
      : context_(context), yard_(yard), service_(service) {}
  ~Birth();  // unless handed over: kills what was born, and waits for it

  // The process exists, is seized, and waits in its namespaces. Sets puppet.tid.
  [[nodiscard]] Result<> clone(const NamespacePlan& plan, parasite::Puppet& puppet);
  // It fills its namespaces, builds its mounts and turns into the puppet. The builder's own error, if any.
  [[nodiscard]] Result<> build();

  pid_t pid() const { return pid_; }
  // From here on somebody else cleans up.
  void hand_over() { pid_ = 0; }

 private:
  [[noreturn]] void live(const NamespacePlan& plan, MountPlan& mounts);
  Result<> prepare(const NamespacePlan& plan, MountPlan& mounts);

  const RestoreContext& context_;
  parasite::PuppetYard& yard_;
  ServiceSockets& service_;
  std::uint32_t slot_ = 0;
  pid_t pid_ = 0;
};

}  // namespace dormouse::engine
