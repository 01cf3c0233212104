// The puppets of one restore, from the root's birth to the moment they are tasks again.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "cgroups/restore.h"
#include "engine/birth.h"
#include "engine/files/epoll.h"
#include "engine/files/files_restore.h"
#include "engine/memory/memory_plan.h"
#include "engine/memory/shared_memory.h"
#include "engine/memory/vdso.h"
#include "engine/plan/family.h"
#include "engine/task/task_restore.h"
#include "kernel/socket.h"
#include "parasite/host/pipeline.h"

namespace dormouse::engine {

// Descriptors that were sent to a puppet, to arrive under the numbers [first, first + count).
struct Handover {
  std::size_t first = 0, count = 0;
  parasite::DataRef numbers{};  // int32 each: where they arrived, once the program has run
};

class Cast {
 public:
  Cast(RestoreContext& context, parasite::Keeper& keeper) : context_(context), keeper_(keeper) {}
  ~Cast();  // without hand_over(): nothing of the restored tree is left

  [[nodiscard]] Result<> plan();
  [[nodiscard]] Result<> clone_root(const NamespacePlan& namespaces);
  [[nodiscard]] Result<> build_root();
  [[nodiscard]] Result<> open_files();
  [[nodiscard]] Result<> raise_tree();
  [[nodiscard]] Result<> install_files();
  [[nodiscard]] Result<> restore_state();
  [[nodiscard]] Result<> resume();

  pid_t root_pid() const { return root_pid_; }
  std::uint64_t pages_restored() const { return pages_restored_; }
  void hand_over() {
    cgroups_->commit();
    files_->keep();
    handed_over_ = true;
  }

 private:
  // One process.
  struct Actor {
    const ImageTask* image = nullptr;
    const FamilyMember* family = nullptr;
    Actor* parent = nullptr;
    std::vector<parasite::Puppet> threads;  // the leader first
    VdsoPlan vdso;
    std::optional<MemoryPlan> memory;
    bool holds_memory = false;  // of whoever it was born of: to be emptied before its own is built
    LateTimers late;
    std::optional<std::uint32_t> executable;  // what the kernel takes for its executable, by file id
  };
  [[nodiscard]] Result<> plan_vdsos(const AddressRange& reserved);
  // One program on a process's leader; an empty one is nothing.
  [[nodiscard]] Result<> run(const Actor& actor, const parasite::Program& program);
  const pb::core_entry& core_of(const Actor& actor, const parasite::Puppet& puppet) const;
  [[nodiscard]] Result<> open_files_about_descriptors();
  [[nodiscard]] Result<> install_files(Actor& actor, parasite::Pipeline& pipeline);
  // Session leaders get their controlling terminals, and who has /dev/tty open opens it.
  [[nodiscard]] Result<> take_terminals();
  [[nodiscard]] Result<> take_terminal(const Actor& actor);
  [[nodiscard]] Result<> open_own_terminal(const Actor& actor, std::uint32_t file_id);
  [[nodiscard]] Result<> take_locks();
  void know_by_number();
  int exit_signal_of(const Actor& actor) const;
  [[nodiscard]] Result<> spawn_children(Actor& parent, BornWhen when);
  [[nodiscard]] Result<> explain_taken_pid(Result<> ran, std::span<const std::size_t> children) const;
  [[nodiscard]] Result<> meet_children(const parasite::Puppet& of);
  [[nodiscard]] Result<> raise(Actor& actor);
  [[nodiscard]] Result<> bear_orphans(std::size_t adoption);
  [[nodiscard]] Result<> spawn_midwife(std::size_t adoption);
  [[nodiscard]] Result<> adopt(std::size_t adoption);
  const parasite::Puppet& giver_of(const Adoption& adoption) const {
    return adoption.by_stand_in ? stand_ins_[adoption.giver] : actors_[adoption.giver].threads.front();
  }
  [[nodiscard]] Result<> spawn_stand_in(std::size_t index);
  [[nodiscard]] Result<> dismiss(const parasite::Puppet& who, const parasite::Puppet& parent, int exit_signal);
  [[nodiscard]] Result<> dismiss_stand_ins();
  static bool is_leaf(const Actor& actor);
  [[nodiscard]] Result<> raise_all(std::span<const std::size_t> actors);
  Result<bool> raise_at_once(Actor& actor, parasite::Pipeline& pipeline);
  // What a puppet needs to build its memory. The files are open until it has them.
  struct Materials {
    MemoryFiles fds;
    std::vector<int> descriptors;
    std::vector<Fd> files;
    int null_device = -1;
  };
  Result<Materials> plan_memory(Actor& actor);
  [[nodiscard]] Result<> build_memory(Actor& actor);
  [[nodiscard]] Result<> run_in_turn(const Actor& actor, std::size_t count,
                                     const std::function<void(parasite::Program&, std::size_t)>& append);
  static void append_close(parasite::Program& program, const Materials& materials);
  [[nodiscard]] Result<> make_aio_rings(const Actor& actor, int null_device);
  bool same_file(std::uint32_t one, std::uint32_t other) const;
  [[nodiscard]] Result<> fill_memory(Actor& actor, const MemoryFiles& fds);
  std::optional<std::uint64_t> checksum_of(const Chunk& chunk) const;
  [[nodiscard]] Result<> check_sums(const Actor& actor, std::span<const MemoryPlan::Loaded> loaded, const parasite::Placed& placed) const;
  [[nodiscard]] Result<> make_and_join_groups();
  [[nodiscard]] Result<> spawn_threads(Actor& actor);
  [[nodiscard]] Result<> bury_zombies();
  [[nodiscard]] Result<> bury(const Actor& actor);
  // Sends descriptors of the engine; they arrive under the lowest free numbers, in order.
  [[nodiscard]] Result<> hand_out(const parasite::Puppet& to, const std::vector<int>& descriptors);
  // Those that fit into one message, received by the program; `lane`: of a pipeline, 0 without.
  static bool fit_into_one_message(const std::vector<int>& descriptors) { return descriptors.size() <= sys::kMaxFdsPerMessage; }
  Result<Handover> append_hand_out(parasite::Program& program, std::size_t lane, std::span<const int> descriptors,
                                   std::size_t first = 0);
  [[nodiscard]] static Result<> check_arrival(const parasite::Puppet& to, const Handover& sent, const parasite::Placed& placed);
  [[nodiscard]] Result<> await_former_tasks() const;
  [[nodiscard]] Result<> prepare_cgroups();
  [[nodiscard]] Result<> place_in_cgroups();
  [[nodiscard]] Result<> look_at_timers();
  [[nodiscard]] Result<> leave_area();
  [[nodiscard]] Result<> set_registers(Actor& actor);
  void stop(const Actor& actor, int signal);

  RestoreContext& context_;
  parasite::Keeper& keeper_;
  // Before the puppets in order of life: groups are removed after the tasks in them are gone.
  std::optional<cgroups::Layout> layout_;
  std::optional<cgroups::CgroupRestore> cgroups_;
  std::unique_ptr<parasite::PuppetYard> yard_;
  ServiceSockets service_;
  std::optional<Birth> birth_;
  Family family_;
  std::vector<Actor> actors_;
  std::vector<parasite::Puppet> stand_ins_;  // parallel to family_.stand_ins; tid 0: not there (any more)
  std::vector<parasite::Puppet> midwives_;   // parallel to family_.adoptions; tid 0: not there (any more)
  std::size_t newest_midwife_ = 0;
  std::unordered_map<pid_t, parasite::Puppet*> by_number_;  // every thread of the image, and the stand-ins
  std::unordered_set<pid_t> met_;            // children found in /proc, as the engine sees them
  std::optional<FilesRestore> files_;
  std::map<std::uint32_t, std::vector<EpollWatch>> watches_;  // by files_id
  std::optional<SharedMemory> shared_;
  std::uint64_t scratch_ = 0, attaching_room_ = 0;
  std::uint32_t helper_slot_ = 0;
  pid_t helper_tid_ = 0;  // of helper threads: a number that no task of the image has
  std::uint64_t pages_restored_ = 0;
  pid_t root_pid_ = 0;
  bool own_pid_namespace_ = false;
  bool handed_over_ = false;
};

}  // namespace dormouse::engine
