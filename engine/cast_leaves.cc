// Cast: processes without children. They wait for nobody and nobody waits for them, so many are built at a time, each by
// a single program.

#include <sched.h>
#include <sys/syscall.h>

#include <algorithm>

#include "engine/cast.h"
#include "engine/ipc/attachments.h"

namespace dormouse::engine {
namespace {

// Beyond these a program would not fit into the area.
constexpr int kMostMappings = 10'000;
constexpr std::size_t kMostRuns = 20'000;
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 30;
// So much memory is better built by two threads of the process, unless there are others to build meanwhile.
constexpr std::uint64_t kMuch = std::uint64_t{4} << 20;
constexpr std::ptrdiff_t kOthers = 3;

std::uint64_t bytes_of(const ImageTask& task) {
  std::uint64_t bytes = 0;
  for (const PageRun& run : task.pages) bytes += run.end - run.start;
  return bytes;
}

bool fits(const ImageTask& task) {
  return task.mm && task.mm->aios_size() == 0 && task.mm->vmas_size() <= kMostMappings && task.pages.size() <= kMostRuns &&
         bytes_of(task) <= kMostBytes;
}

}  // namespace

// One that has others, or shares the table in which its files arrive with somebody who may be built at the same time, is none.
bool Cast::is_leaf(const Actor& actor) {
  const FamilyMember& member = *actor.family;
  return actor.image->alive() && member.children.empty() && member.early_midwives.empty() && (member.owns & CLONE_FILES) &&
         fits(*actor.image);
}

Result<> Cast::raise_all(std::span<const std::size_t> who) {
  const auto has_much = [&](std::size_t index) { return bytes_of(*actors_[index].image) > kMuch; };
  const bool all_at_once = std::ranges::count_if(who, has_much) >= kOthers;
  std::vector<std::size_t> leaves, others;
  parasite::Pipeline pipeline(*yard_);
  for (const std::size_t index : who) {
    const bool raised = is_leaf(actors_[index]) && (all_at_once || !has_much(index)) && TRY(raise_at_once(actors_[index], pipeline));
    (raised ? leaves : others).push_back(index);
  }
  TRY(pipeline.finish());
  for (const std::size_t index : leaves) TRY(spawn_threads(actors_[index]));
  for (const std::size_t index : others) TRY(raise(actors_[index]));
  return {};
}

// False: it needs more descriptors than a message has room for.
Result<bool> Cast::raise_at_once(Actor& actor, parasite::Pipeline& pipeline) {
  const FamilyMember& member = *actor.family;
  const bool has_own_memory = member.owns & CLONE_VM;
  Materials materials;
  if (has_own_memory) materials = TRY(plan_memory(actor));
  if (!fit_into_one_message(materials.descriptors)) return false;
  parasite::Program program;
  if (has_own_memory && !member.inherits_memory && actor.holds_memory) yard_->append_unmap_all(program);
  if (member.makes_session && member.session_first) program.call("lead a session", SYS_setsid, {});
  const Handover handover = TRY(append_hand_out(program, TRY(pipeline.next_lane()), materials.descriptors));
  std::vector<MemoryPlan::Loaded> loaded;
  if (has_own_memory) {
    const MemoryPlan& plan = *actor.memory;
    plan.append_map(program, materials.fds);
    plan.append_fill(program, materials.fds, 0, plan.chunks().size(), loaded);
    plan.append_seal(program);
    append_attachments(program, context_.image, *actor.image->mm, attaching_room_);
    append_close(program, materials);
  }
  if (member.makes_session && !member.session_first) program.call("lead a session", SYS_setsid, {});
  if (has_own_memory) actor.memory->append_late_advice(program);
  actor.holds_memory = true;
  if (program.empty()) return true;
  TRY(pipeline.start(actor.threads.front(), std::move(program),
                     [this, &actor, handover, loaded = std::move(loaded)](const parasite::Placed& placed) -> Result<> {
                       TRY(check_arrival(actor.threads.front(), handover, placed));
                       if (!actor.memory) return {};
                       TRY(check_sums(actor, loaded, placed));
                       pages_restored_ += actor.memory->bytes() / 4096;
                       actor.memory.reset();
                       return {};
                     }));
  return true;
}

}  // namespace dormouse::engine
