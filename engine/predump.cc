// The table of contents of a pre-dump; each step says what holds afterwards.

#include "engine/predump.h"

#include <fcntl.h>

#include <cerrno>
#include <optional>

#include "base/format.h"
#include "cgroups/freezer.h"
#include "engine/dedup.h"
#include "engine/inventory.h"
#include "engine/memory/address_space.h"
#include "engine/memory/pages_dump.h"
#include "engine/release_tree.h"
#include "engine/stats.h"
#include "engine/stop_tree.h"
#include "engine/task/restartable.h"
#include "kernel/ptrace.h"

namespace dormouse::engine {
namespace {

// A thread that is to run something else must leave the sequence it is in.
Result<> leave_sequences(parasite::HeldProcess& held) {
  for (const auto& thread : held.threads()) {
    const auto configuration = sys::ptrace::get_rseq_configuration(thread->tid());
    // EIO: the kernel has no such request (before 5.13) or no rseq at all.
    if (!configuration && configuration.error().is_kernel(EIO)) continue;
    const auto handler =
        TRY(abort_address(thread->tid(), TRY_OR(configuration, std::move(e).owner(held.name())), thread->context().regs.rip));
    if (handler) thread->abort_sequence(*handler);
  }
  return {};
}

// One live process, and which of its pages are to be saved.
struct Subject {
  Task& task;
  const proc::ProcDir& dir;
  parasite::HeldProcess& held;
  AddressSpace space;
  std::vector<PageRun> runs;
  Fd memory;  // /proc/PID/mem
};

class PreDump {
 public:
  explicit PreDump(const CheckpointOptions& options) : options_(options) {}

  Result<> run();
  void discard() {
    (void)let_go();
    if (out_) out_->discard();
  }
  CheckpointReport report() const { return report_; }

 private:
  [[nodiscard]] Result<> look();
  [[nodiscard]] Result<> stop();
  [[nodiscard]] Result<> describe();
  [[nodiscard]] Result<> prepare(Subject& subject);
  [[nodiscard]] Result<> mark();
  [[nodiscard]] Result<> let_go();
  [[nodiscard]] Result<> copy();
  [[nodiscard]] Result<> seal();
  void drop_replaced_pages();

  const CheckpointOptions& options_;
  CheckpointReport report_;
  Blockers unsaved_;  // what the checkpoint will have to say something about; mappings left out here
  sys::Features features_;
  std::optional<ParentPages> parent_;
  std::optional<PageTracking> tracking_;
  std::optional<images::OutputDirectory> out_;
  std::unique_ptr<parasite::Keeper> keeper_;
  parasite::GadgetFinder finder_;
  std::optional<cgroups::Freezer> freezer_;
  std::optional<StoppedTree> stopped_;
  std::optional<DumpContext> context_;
  std::vector<Subject> subjects_;
  std::optional<PagesDump> pages_;
  std::string generation_;
  Clock::time_point frozen_at_;
  bool running_ = true;
};

Result<> PreDump::run() {
  TRY(look());      // nothing is touched yet
  TRY(stop());      // every thread of the tree is in a ptrace stop
  TRY(describe());  // mappings are known
  TRY(mark());      // so are the pages, and what is written from here on
  TRY(let_go());    // the tasks run
  TRY(copy());      // their pages are in the images
  TRY(seal());
  TRY(tracking_->go_on(generation_));
  drop_replaced_pages();
  return write_dump_stats(options_, report_);
}

Result<> PreDump::look() {
  features_ = TRY(sys::Features::make(options_.without));
  tracking_.emplace(features_, *options_.log);
  TRY(check_tracking(*tracking_, options_));
  if (!options_.parent_images.empty()) parent_ = TRY(ParentPages::open(options_.images_dir, options_.parent_images));
  tracking_->look();
  generation_ = TRY(images::new_generation());
  out_ = TRY(images::OutputDirectory::open(options_.images_dir));
  if (parent_) TRY(out_->link_parent(options_.parent_images));
  keeper_ = TRY(parasite::Keeper::create());
  if (!options_.freeze_cgroup.empty()) freezer_.emplace(TRY(cgroups::Freezer::open(options_.freeze_cgroup)));
  return {};
}

Result<> PreDump::stop() {
  frozen_at_ = Clock::now();
  TreeStopper stopper(*keeper_, *options_.log);
  running_ = false;
  TRY(stopper.seize(options_.pid));
  if (freezer_ && freezer_->was_frozen()) TRY(freezer_->thaw());
  stopped_ = TRY(stopper.settle(options_.freeze_timeout));
  report_.freezing = since(frozen_at_);
  report_.tasks = static_cast<std::uint32_t>(stopped_->tree.tasks.size());
  report_.threads = stopped_->tree.thread_count();
  context_.emplace(DumpContext{options_, *options_.log, *out_, stopped_->tree, unsaved_, &*tracking_});
  pages_.emplace(*context_, PageHistory{*tracking_, parent_ ? &*parent_ : nullptr, true});
  return identify_shared(stopped_->tree);
}

Result<> PreDump::describe() {
  for (std::size_t i = 0; i < stopped_->tree.tasks.size(); ++i) {
    Task& task = *stopped_->tree.tasks[i];
    if (!stopped_->held[i]) continue;
    TRY(tracking_->follow_calls(task, *stopped_->held[i]));
    if (!task.owns_vm) continue;
    auto space = TRY(AddressSpace::read(*context_, task, *stopped_->dirs[i], features_, AddressSpace::Content::kLater));
    space.report(unsaved_);
    subjects_.push_back({task, *stopped_->dirs[i], *stopped_->held[i], std::move(space), {}, {}});
  }
  return {};
}

// Only a process that was not tracked before has anything to do.
Result<> PreDump::prepare(Subject& subject) {
  if (!TRY(tracking_->needs_descriptor(subject.task))) return {};
  TRY(subject.held.capture_contexts());
  TRY(leave_sequences(subject.held));
  TRY_OR(subject.held.enter(finder_, subject.dir.fd(), subject.space.maps()), std::move(e).owner(subject.task.name()));
  TRY(tracking_->make_descriptor(subject.task, *keeper_, subject.held));
  // Out again, and only then are marks taken: what the visit changed on the stack is put back by now.
  return subject.held.withdraw();
}

Result<> PreDump::mark() {
  for (Subject& subject : subjects_) TRY(prepare(subject));
  const auto start = Clock::now();
  for (Subject& subject : subjects_) {
    subject.runs = TRY(pages_->find_runs(subject.task, subject.dir, subject.space));
    subject.memory = TRY_OR(subject.dir.open_at("mem", O_RDONLY), std::move(e).owner(subject.task.name()));
  }
  report_.memory_dump = since(start);
  return {};
}

Result<> PreDump::let_go() {
  if (std::exchange(running_, true)) return {};
  const Result<> outcome = put_back(stopped_ ? &*stopped_ : nullptr, freezer_ ? &*freezer_ : nullptr,
                                    options_.after == AfterDump::kStop);
  report_.frozen = since(frozen_at_);
  return outcome;
}

Result<> PreDump::copy() {
  const auto start = Clock::now();
  for (Subject& subject : subjects_) TRY(pages_->save_behind(subject.task, subject.memory.get(), subject.runs));
  report_.pages_scanned = pages_->counts().scanned;
  report_.pages_written = pages_->counts().written;
  report_.pages_in_parent = pages_->counts().in_parent;
  report_.memory_write = since(start);
  return {};
}

Result<> PreDump::seal() {
  TRY(save_pre_dump_inventory(*context_));
  images::ManifestInfo info;
  info.tasks = report_.tasks;
  info.threads = report_.threads;
  info.pages = report_.pages_written;
  info.root_comm = stopped_->tree.root().comm;
  info.generation = generation_;
  info.pre_dump = true;
  if (pages_->uses_parent()) info.parent = parent_->generation();
  return out_->seal(info, options_.sync_images);
}

// The images stand; that their parents are larger than they need be is no failure.
void PreDump::drop_replaced_pages() {
  if (!options_.auto_dedup || !pages_->uses_parent()) return;
  if (const Result<> dropped = dedup(options_.images_dir); !dropped)
    options_.log->warn("pages of the parent images could not be dropped: {}", dropped.error().message());
}

}  // namespace

std::expected<CheckpointReport, Failures> pre_dump(const CheckpointOptions& asked) {
  CheckpointOptions options = asked;
  options.track_memory = true;  // what else for
  PreDump work(options);
  const Result<> done = work.run();
  if (done) return work.report();
  work.discard();
  return std::unexpected(Failures{{done.error()}});
}

}  // namespace dormouse::engine
