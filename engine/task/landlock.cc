#include "engine/task/landlock.h"

#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <tuple>

#include "base/format.h"
#include "parasite/host/helper_thread.h"

namespace dormouse::engine {
namespace {

constexpr unsigned kCreateRulesetVersion = 1;  // LANDLOCK_CREATE_RULESET_VERSION

// LANDLOCK_MAX_NUM_LAYERS: 64 until Linux 5.19, which brought the second version of the interface.
unsigned most_layers() {
  return ::syscall(SYS_landlock_create_ruleset, nullptr, 0, kCreateRulesetVersion) == 1 ? 64 : 16;
}

// struct landlock_ruleset_attr of the first version, with one right to handle.
constexpr std::uint64_t kHandled = 1;  // LANDLOCK_ACCESS_FS_EXECUTE

// A domain has a limited number of layers: one that has some takes fewer of them than one that has none. The helper
// restricts itself, and nobody else: a domain belongs to one thread's credentials.
std::vector<parasite::OpRef> append_layers(parasite::Program& program) {
  const auto any = parasite::anything();
  // Should the engine die now, nobody closes the ruleset: it must not be in the process's table.
  program.call("give the helper a table of its own", SYS_unshare, {CLONE_FILES});
  program.call("let the helper be restricted", SYS_prctl, {PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0});
  const parasite::OpRef ruleset = program.call("make a Landlock ruleset", SYS_landlock_create_ruleset,
                                               {program.value(kHandled), sizeof kHandled, 0});
  std::vector<parasite::OpRef> layers;
  const unsigned most = most_layers();
  for (unsigned i = 0; i < most; ++i)
    layers.push_back(program.call("add a layer", SYS_landlock_restrict_self, {ruleset, 0}, any));
  program.call("", SYS_close, {ruleset});
  return layers;
}

bool worth_asking(const proc::Status& status) {
  const bool allowed = status.no_new_privs || (status.cap_effective & (std::uint64_t{1} << CAP_SYS_ADMIN));
  return allowed && status.seccomp == 0;
}

bool alike(const proc::Status& one, const proc::Status& other) {
  const auto credentials = [](const proc::Status& of) {
    return std::tie(of.no_new_privs, of.uid, of.gid, of.cap_inheritable, of.cap_permitted, of.cap_effective, of.cap_bounding);
  };
  return credentials(one) == credentials(other);
}

}  // namespace

bool landlock_here() { return ::syscall(SYS_landlock_create_ruleset, nullptr, 0, kCreateRulesetVersion) > 0; }

std::vector<std::size_t> threads_to_ask_for_landlock(std::span<const proc::Status* const> threads) {
  constexpr std::size_t kFew = 8;
  std::vector<std::size_t> chosen;
  for (std::size_t i = 0; i < threads.size(); ++i) {
    const bool new_kind = std::ranges::none_of(chosen, [&](std::size_t other) { return alike(*threads[i], *threads[other]); });
    if (worth_asking(*threads[i]) && (new_kind || chosen.size() < kFew)) chosen.push_back(i);
  }
  return chosen;
}

Result<> refuse_landlock(parasite::Keeper& keeper, parasite::HeldProcess& held, const Task& task, std::size_t index) {
  const parasite::HeldThread& thread = *held.threads()[index];
  auto helper = parasite::HelperThread::start(keeper, {held.area(), held.spare_slot(), static_cast<std::uint32_t>(index),
                                                       thread.tid(), held.name()});
  // A limit on processes, say: then nothing is known, as on kernels without Landlock.
  if (!helper) return {};
  parasite::Program program;
  const std::vector<parasite::OpRef> layers = append_layers(program);
  parasite::Batch batch(keeper);
  const std::size_t job = TRY(helper->add_to(batch, program));
  TRY(batch.run());
  bool inside = false;
  for (const parasite::OpRef layer : layers) inside = inside || batch.placed(job).result(layer) == -E2BIG;
  TRY(helper->dismiss());
  if (!inside) return {};
  return fail(Error::unsupported("it has restricted itself with Landlock, and the kernel does not tell how")
                  .object(format("thread {}", task.threads[index].ns_tid))
                  .owner(task.name())
                  .remedy("run it without, or give these restrictions up with --drop-landlock"));
}

}  // namespace dormouse::engine
