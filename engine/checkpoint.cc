// The table of contents of a checkpoint; each step says what holds afterwards.

#include "engine/checkpoint.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <optional>
#include <span>

#include "base/defer.h"
#include "base/format.h"
#include "base/parallel.h"
#include "cgroups/freezer.h"
#include "cgroups/save.h"
#include "engine/cpu/cpuinfo.h"
#include "engine/files/files_dump.h"
#include "engine/ipc/attachments.h"
#include "engine/memory/address_space.h"
#include "engine/dedup.h"
#include "engine/inventory.h"
#include "engine/memory/page_tracking.h"
#include "engine/memory/pages_dump.h"
#include "engine/memory/parent_pages.h"
#include "engine/mounts/mount_table.h"
#include "engine/mounts/mounts_dump.h"
#include "engine/namespaces/namespaces.h"
#include "engine/stats.h"
#include "engine/stop_tree.h"
#include "engine/task/seccomp.h"
#include "engine/task/task_dump.h"
#include "images/schema/files.pb.h"
#include "images/schema/inventory.pb.h"
#include "images/schema/kinship.pb.h"
#include "images/schema/task.pb.h"
#include "kernel/process.h"

namespace dormouse::engine {
namespace {

using Clock = std::chrono::steady_clock;

std::chrono::microseconds since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start);
}

void fill_namespace_ids(const NamespaceIds& ns, pb::task_kobj_ids_entry& ids) {
  ids.set_pid_ns_id(ns.pid);
  ids.set_net_ns_id(ns.net);
  ids.set_ipc_ns_id(ns.ipc);
  ids.set_uts_ns_id(ns.uts);
  ids.set_mnt_ns_id(ns.mnt);
  ids.set_user_ns_id(ns.user);
  if (ns.cgroup != 0) ids.set_cgroup_ns_id(ns.cgroup);
  if (ns.time != 0) ids.set_time_ns_id(ns.time);
}

// One live process of the tree on its way into the image.
struct Subject {
  Task& task;
  const proc::ProcDir& dir;
  parasite::HeldProcess& held;
  AddressSpace space;
  TaskDump state;
};

class Checkpoint {
 public:
  explicit Checkpoint(const CheckpointOptions& options) : options_(options) {}

  Result<> run();
  // After a failure: what was written is no checkpoint, and does not look like one.
  void discard() {
    (void)put_back(false);
    if (out_) out_->discard();
  }
  CheckpointReport report() const { return report_; }
  std::vector<Error> blockers() && { return std::move(blockers_).take(); }

 private:
  [[nodiscard]] Result<> notify(const char* stage) {
    return options_.notify ? options_.notify({stage, 0, -1}) : Result<>{};
  }
  [[nodiscard]] Result<> look();
  [[nodiscard]] Result<> stop();
  [[nodiscard]] Result<> identify();
  [[nodiscard]] Result<> describe_tasks();
  struct Part {
    Subject* subject;
    std::optional<std::size_t> thread;
  };
  std::vector<Part> parts_of_tasks();
  void check_session();
  [[nodiscard]] Result<> describe_surroundings();
  [[nodiscard]] Result<> begin_cgroups();
  [[nodiscard]] Result<> save_tree();
  [[nodiscard]] Result<> save_exit_signals();
  [[nodiscard]] Result<> save_fs(Subject& subject);
  [[nodiscard]] Result<> enter();
  [[nodiscard]] Result<> ask_tasks();
  [[nodiscard]] Result<> ask_about_tasks(std::span<Subject> subjects);
  [[nodiscard]] Result<> ask_about_memory(std::span<Subject> subjects);
  [[nodiscard]] Result<> ask_more_about_memory(std::span<Subject> subjects);
  [[nodiscard]] Result<> find_cgroups();
  [[nodiscard]] Result<> save_tasks();
  std::vector<std::uint64_t> restartable_areas(const Task& owner) const;  // of all tasks in its memory
  [[nodiscard]] Result<> save_memory();
  [[nodiscard]] Result<> save_inventory();
  [[nodiscard]] Result<> seal();
  [[nodiscard]] Result<> settle_tracking();
  void drop_replaced_pages();
  [[nodiscard]] Result<> put_back(bool stopped);
  [[nodiscard]] Result<> release();
  [[nodiscard]] Result<> no_blockers();

  const CheckpointOptions& options_;
  CheckpointReport report_;
  Blockers blockers_;
  sys::Features features_;
  std::optional<ParentPages> parent_;
  std::optional<PageTracking> tracking_;
  std::optional<images::OutputDirectory> out_;
  std::string generation_;
  bool uses_parent_ = false;
  std::unique_ptr<parasite::Keeper> keeper_;
  std::optional<cgroups::Freezer> freezer_;
  std::optional<StoppedTree> stopped_;
  std::optional<DumpContext> context_;
  std::optional<MountTable> mounts_;
  std::optional<NamespacesDump> namespaces_;
  std::optional<FilesDump> files_;
  std::vector<const Task*> large_;  // see release()
  SeccompTable filters_;
  std::optional<cgroups::Layout> layout_;
  std::optional<cgroups::SavedCgroups> cgroups_;
  std::vector<Subject> subjects_;
  Clock::time_point began_ = Clock::now(), frozen_at_;
};

Result<> Checkpoint::run() {
  TRY(notify("pre-dump"));
  TRY(look());       // nothing is touched yet; options and kernel are known to be good
  TRY(stop());       // every thread of the tree is in a ptrace stop
  TRY(identify());   // what is shared with whom has numbers
  const bool own_network = namespaces_->own() & CLONE_NEWNET;
  if (own_network) TRY(notify("network-lock"));
  Defer unlock{[&] { if (own_network) (void)notify("network-unlock"); }};
  TRY(notify("query-ext-files"));
  TRY(describe_tasks());         // registers and queued signals are read
  TRY(describe_surroundings());  // namespaces, mounts, descriptors, cgroups
  TRY(no_blockers());            // nothing stands in the way: now the tasks are borrowed
  TRY(enter());                  // every thread serves the interpreter
  TRY(ask_tasks());              // what only the tasks can tell is known
  TRY(save_tasks());
  TRY(save_memory());
  TRY(save_inventory());
  TRY(seal());                   // from here on it is a checkpoint
  TRY(notify("post-dump"));
  TRY(settle_tracking());        // goes on, or is gone
  files_->keep();                // names made in the file system stay for the restore
  if (options_.after == AfterDump::kKill) unlock.cancel();
  TRY(release());
  drop_replaced_pages();
  TRY(write_dump_stats(options_, report_));
  return {};
}

Result<> Checkpoint::look() {
  features_ = TRY(sys::Features::make(options_.without));
  tracking_.emplace(features_, *options_.log);
  TRY(check_tracking(*tracking_, options_));
  if (!options_.parent_images.empty()) parent_ = TRY(ParentPages::open(options_.images_dir, options_.parent_images));
  if (options_.track_memory || parent_) tracking_->look();
  generation_ = TRY(images::new_generation());
  out_ = TRY(images::OutputDirectory::open(options_.images_dir));
  if (parent_) TRY(out_->link_parent(options_.parent_images));
  keeper_ = TRY(parasite::Keeper::create());
  if (!options_.freeze_cgroup.empty()) freezer_.emplace(TRY(cgroups::Freezer::open(options_.freeze_cgroup)));
  return {};
}

// The freezer is used only where it is in use already: seizing every thread until nothing new appears
// needs no freezer, while tasks that come frozen must be thawed to stop, and be frozen again afterwards.
Result<> Checkpoint::stop() {
  frozen_at_ = Clock::now();
  TreeStopper stopper(*keeper_, *options_.log);
  TRY(stopper.seize(options_.pid));
  if (freezer_ && freezer_->was_frozen()) TRY(freezer_->thaw());
  stopped_ = TRY(stopper.settle(options_.freeze_timeout));
  report_.freezing = since(frozen_at_);
  report_.tasks = static_cast<std::uint32_t>(stopped_->tree.tasks.size());
  report_.threads = stopped_->tree.thread_count();
  options_.log->debug("{} tasks with {} threads stopped", report_.tasks, report_.threads);
  context_.emplace(DumpContext{options_, *options_.log, *out_, stopped_->tree, blockers_, &*tracking_});
  return {};
}

Result<> Checkpoint::identify() {
  TRY(identify_shared(stopped_->tree));
  namespaces_ = TRY(NamespacesDump::identify(*context_));
  context_->namespaces = &*namespaces_;
  context_->network_id = namespaces_->ids_of(stopped_->tree.root()).net;
  context_->outside_network_id = namespaces_->outside().net;
  return {};
}

Result<> Checkpoint::describe_tasks() {
  for (std::size_t i = 0; i < stopped_->tree.tasks.size(); ++i) {
    Task& task = *stopped_->tree.tasks[i];
    if (!stopped_->held[i]) continue;
    auto& held = *stopped_->held[i];
    TRY(held.capture_contexts());
    TRY(tracking_->follow_calls(task, held));
    subjects_.push_back({task, *stopped_->dirs[i], held, {}, TaskDump(*context_, task, held, filters_)});
  }
  const std::vector<Part> parts = parts_of_tasks();
  std::vector<Result<>> read(parts.size());
  TRY(in_parallel(parts.size(), [&](std::size_t i) -> Result<> {
    auto& [subject, thread] = parts[i];
    if (thread) read[i] = subject->state.read_files(*thread);
    else subject->space = TRY(AddressSpace::read(*context_, subject->task, subject->dir, features_));
    return {};
  }));
  // Every process's failures, but only the first of each.
  const Subject* failed = nullptr;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto& [subject, thread] = parts[i];
    if (!thread) subject->space.report(blockers_);
    if (failed != subject && !blockers_.note(std::move(read[i]))) failed = subject;
    if (failed != subject && thread && *thread + 1 == subject->state.thread_count())
      blockers_.note(subject->state.read_traced());
  }
  return {};
}

// What the engine's threads may share out among them: each thread of each task, and what a task has but once.
std::vector<Checkpoint::Part> Checkpoint::parts_of_tasks() {
  std::vector<Part> parts;
  for (Subject& subject : subjects_) {
    parts.push_back({&subject, std::nullopt});
    for (std::size_t t = 0; t < subject.state.thread_count(); ++t) parts.push_back({&subject, t});
  }
  return parts;
}

// 0 is a leader outside the pid namespace, as a container's shell has it under a runtime's terminal.
void Checkpoint::check_session() {
  const Task& root = stopped_->tree.root();
  if (root.ns_sid == root.ns_pid || root.ns_sid == 0 || options_.shell_job) return;
  blockers_.add(Error::unsupported(format("its session {} is led by a process outside the tree", root.ns_sid))
                    .object("session").owner(root.name())
                    .remedy("use --shell-job if the session of the restoring shell may take its place"));
}

Result<> Checkpoint::describe_surroundings() {
  const Task& root = stopped_->tree.root();
  check_session();
  mounts_ = TRY(MountTable::of(TRY(stopped_->dirs[0]->read("mountinfo"))));
  files_.emplace(TRY(FilesDump::begin(*context_, *mounts_)));
  for (Subject& subject : subjects_)
    if (subject.task.owns_files) blockers_.note(files_->save_table(subject.task));
  blockers_.note(files_->save_in_flight());
  for (Subject& subject : subjects_) blockers_.note(subject.space.save_memory_files(subject.task, *files_));
  for (Subject& subject : subjects_) blockers_.note(subject.space.save_files(subject.task, *files_));
  TRY(namespaces_->save(*context_));
  for (Subject& subject : subjects_)
    check_attachments(*context_, subject.task, subject.space.vmas(), namespaces_->own() & CLONE_NEWIPC,
                      namespaces_->segments());
  if (namespaces_->own() & CLONE_NEWNS)
    blockers_.note(save_mounts(*context_, root, *mounts_, namespaces_->ids_of(root).mnt));
  return begin_cgroups();
}

Result<> Checkpoint::begin_cgroups() {
  layout_ = TRY(cgroups::Layout::discover(options_.cgroup_yard));
  cgroups::SaveOptions options;
  options.mode = options_.cgroup_mode;
  options.roots = options_.cgroup_roots;
  options.only_controllers = options_.cgroup_controllers;
  if (options_.cgroup_properties_ignore_default) options.properties.clear();
  for (const std::string& spec : options_.cgroup_property_specs) TRY(options.properties.merge_yaml(spec));
  if (freezer_) options.freezer = &*freezer_;
  cgroups_.emplace(cgroups::SavedCgroups::begin(*layout_, std::move(options)));
  return {};
}

Result<> Checkpoint::no_blockers() {
  if (blockers_.empty()) return {};
  return fail(Error::unsupported("the tree cannot be saved"));
}

Result<> Checkpoint::enter() {
  parasite::GadgetFinder finder;
  for (Subject& subject : subjects_) {
    // Where one address space has several processes, the areas of those before are in it by now.
    std::vector<proc::Vma> maps;
    if (!subject.task.owns_vm) maps = TRY_OR(subject.dir.maps(), std::move(e).owner(subject.task.name()));
    TRY_OR(subject.held.enter(finder, subject.dir.fd(), subject.task.owns_vm ? subject.space.maps() : maps),
           std::move(e).owner(subject.task.name()));
  }
  return {};
}

Result<> Checkpoint::ask_tasks() {
  // Programs and their answers are large, but soon read.
  constexpr std::size_t kAtOnce = 64;
  for (std::size_t from = 0; from < subjects_.size(); from += kAtOnce) {
    const auto some = std::span(subjects_).subspan(from, std::min(kAtOnce, subjects_.size() - from));
    TRY(ask_about_tasks(some));
    TRY(ask_about_memory(some));
    TRY(ask_more_about_memory(some));
    for (Subject& subject : some) blockers_.note(subject.state.refuse_restrictions(*keeper_));
    for (Subject& subject : some) subject.held.area().let_go_of_pages();
  }
  return no_blockers();
}

Result<> Checkpoint::ask_about_tasks(std::span<Subject> subjects) {
  parasite::Batch batch(*keeper_);
  for (Subject& subject : subjects) {
    subject.state.ask();
    for (std::size_t t = 0; t < subject.state.thread_count(); ++t)
      TRY(batch.add(subject.held, *subject.held.threads()[t], subject.state.program(t)));
  }
  TRY(batch.run());
  std::size_t job = 0;
  for (Subject& subject : subjects) {
    for (std::size_t t = 0; t < subject.state.thread_count(); ++t) TRY(subject.state.take(t, batch.placed(job++)));
    subject.state.drop_programs();
  }
  return {};
}

Result<> Checkpoint::ask_about_memory(std::span<Subject> subjects) {
  std::vector<parasite::Program> programs(subjects.size());
  parasite::Batch batch(*keeper_);
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    subjects[i].space.ask(programs[i], subjects[i].held.area());
    TRY(batch.add(subjects[i].held, subjects[i].held.leader(), programs[i]));
  }
  TRY(batch.run());
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    TRY_OR(subjects[i].space.take(batch.placed(i), subjects[i].dir, subjects[i].held.area()),
           std::move(e).owner(subjects[i].task.name()));
    subjects[i].held.area().rewind();
  }
  return {};
}

// Where one program is not enough: of thousands of mappings.
Result<> Checkpoint::ask_more_about_memory(std::span<Subject> subjects) {
  for (;;) {
    std::vector<parasite::Program> programs(subjects.size());
    std::vector<std::pair<Subject*, std::size_t>> asked;
    parasite::Batch batch(*keeper_);
    for (std::size_t i = 0; i < subjects.size(); ++i)
      if (Subject& subject = subjects[i]; subject.space.ask_more(programs[i]))
        asked.emplace_back(&subject, TRY(batch.add(subject.held, subject.held.leader(), programs[i])));
    if (asked.empty()) return {};
    TRY(batch.run());
    for (const auto& [subject, job] : asked) {
      subject->space.take_more(batch.placed(job));
      subject->held.area().rewind();
    }
  }
}

Result<> Checkpoint::save_fs(Subject& subject) {
  const Task& task = subject.task;
  for (const std::size_t thread : subject.state.threads_with_own_directories()) {
    const std::string folder = format("task/{}", subject.held.threads()[thread]->tid());
    subject.state.set_directories(thread, TRY(files_->save_path(task, folder + "/cwd", O_RDONLY)),
                                  TRY(files_->save_path(task, folder + "/root", O_RDONLY)));
  }
  pb::fs_entry fs;
  fs.set_cwd_id(TRY(files_->save_path(task, "cwd", O_RDONLY)));
  fs.set_root_id(TRY(files_->save_path(task, "root", O_RDONLY)));
  fs.set_umask(TRY(subject.dir.status()).umask);
  return out_->write(images::kFs, task.ns_pid, fs);
}

Result<> Checkpoint::find_cgroups() {
  std::vector<Part> parts = parts_of_tasks();
  std::erase_if(parts, [](const Part& part) { return !part.thread; });
  std::vector<std::optional<proc::ProcDir>> threads(parts.size());
  std::vector<cgroups::SavedCgroups::Membership> memberships(parts.size());
  TRY(in_parallel(parts.size(), [&](std::size_t i) -> Result<> {
    const auto& [subject, thread] = parts[i];
    threads[i] = TRY(subject->dir.thread(subject->held.threads()[*thread]->tid()));
    memberships[i] = TRY(cgroups::SavedCgroups::membership_of(*threads[i]));
    if (i != 0) threads[i].reset();
    return {};
  }));
  for (std::size_t i = 0; i < parts.size(); ++i)
    parts[i].subject->state.set_cgroup_set(*parts[i].thread, TRY(cgroups_->set_of(*threads[0], std::move(memberships[i]))));
  return {};
}

Result<> Checkpoint::save_tasks() {
  TRY(save_tree());
  TRY(find_cgroups());
  for (Subject& subject : subjects_) {
    TRY(save_fs(subject));
    TRY(subject.state.begin_write());
  }
  const std::vector<Part> parts = parts_of_tasks();
  TRY(in_parallel(parts.size(), [&](std::size_t i) -> Result<> {
    auto& [subject, thread] = parts[i];
    if (thread) return subject->state.write_thread(*thread);
    TRY(subject->space.write(*context_, subject->task));
    return subject->state.write_process();
  }));
  for (const auto& task : stopped_->tree.tasks)
    if (!task->alive()) TRY(write_zombie_core(*context_, *task));
  TRY(filters_.write(*out_));
  TRY(files_->finish());
  return cgroups_->write(*out_);
}

Result<> Checkpoint::save_tree() {
  auto tree = TRY(out_->create(images::kPstree));
  for (const auto& task : stopped_->tree.tasks) {
    pb::pstree_entry entry;
    entry.set_pid(static_cast<std::uint32_t>(task->ns_pid));
    entry.set_ppid(task->parent ? static_cast<std::uint32_t>(task->parent->ns_pid) : 0);
    entry.set_pgid(static_cast<std::uint32_t>(task->ns_pgid));
    entry.set_sid(static_cast<std::uint32_t>(task->ns_sid));
    for (const Thread& thread : task->threads) entry.add_threads(static_cast<std::uint32_t>(thread.ns_tid));
    TRY(tree.append(entry));
  }
  TRY(tree.finish());
  for (const auto& task : stopped_->tree.tasks) {
    if (!task->alive()) continue;
    const NamespaceIds& ns = namespaces_->ids_of(*task);
    pb::task_kobj_ids_entry ids;
    ids.set_vm_id(task->vm_id);
    ids.set_files_id(task->files_id);
    ids.set_fs_id(task->fs_id);
    ids.set_sighand_id(task->sighand_id);
    fill_namespace_ids(ns, ids);
    TRY(out_->write(images::kIds, task->ns_pid, ids));
  }
  return save_exit_signals();
}

Result<> Checkpoint::save_exit_signals() {
  std::optional<images::Writer> writer;
  for (const auto& task : stopped_->tree.tasks) {
    // The root's is its restorer's business.
    if (task->exit_signal == SIGCHLD || !task->parent) continue;
    if (!writer) writer.emplace(TRY(out_->create(images::kExitSignals)));
    pb::exit_signal_entry entry;
    entry.set_pid(static_cast<std::uint32_t>(task->ns_pid));
    entry.set_signal(static_cast<std::uint32_t>(task->exit_signal));
    TRY(writer->append(entry));
  }
  return writer ? writer->finish() : Result<>{};
}

std::vector<std::uint64_t> Checkpoint::restartable_areas(const Task& owner) const {
  std::vector<std::uint64_t> areas;
  for (const Subject& subject : subjects_) {
    if (subject.task.vm_id != owner.vm_id) continue;
    for (const std::uint64_t area : subject.state.restartable_areas()) areas.push_back(area);
  }
  return areas;
}

// So many private pages take longer to free than it takes to ask for it.
constexpr std::uint64_t kManyPages = (16 << 20) / 4096;

Result<> Checkpoint::save_memory() {
  const auto start = Clock::now();
  const bool again = options_.track_memory && options_.after != AfterDump::kKill;
  PagesDump pages(*context_, {*tracking_, options_.track_memory && parent_ ? &*parent_ : nullptr, again});
  std::vector<PagesDump::Memory> memories;
  for (Subject& subject : subjects_) {
    if (!subject.task.owns_vm) continue;
    if (again && TRY(tracking_->needs_descriptor(subject.task)))
      TRY(tracking_->make_descriptor(subject.task, *keeper_, subject.held));
    memories.push_back({subject.task, subject.dir, subject.space, subject.held, restartable_areas(subject.task)});
  }
  TRY(pages.save(*keeper_, memories));
  for (const PagesDump::Memory& memory : memories) {
    if (memory.pages >= kManyPages) large_.push_back(&memory.task);
    TRY(pages.save_shared(memory.task, memory.dir, memory.space));
  }
  for (const SavedSegment& segment : namespaces_->segments()) TRY(pages.save_segment(segment));
  for (const MemoryObject& object : files_->memory_objects()) TRY(pages.save_object(object));
  report_.pages_scanned = pages.counts().scanned;
  report_.pages_written = pages.counts().written;
  report_.pages_in_parent = pages.counts().in_parent;
  uses_parent_ = pages.uses_parent();
  report_.shared_pages_scanned = pages.counts().shared_scanned;
  report_.shared_pages_written = pages.counts().shared_written;
  report_.memory_dump = report_.memory_write = since(start);
  return {};
}

Result<> Checkpoint::save_inventory() {
  pb::inventory_entry inventory;
  inventory.set_img_version(2);
  inventory.set_fdinfo_per_id(true);
  inventory.set_ns_per_id(true);
  pb::task_kobj_ids_entry& own = *inventory.mutable_root_ids();
  own.set_vm_id(1);
  own.set_files_id(1);
  own.set_fs_id(1);
  own.set_sighand_id(1);
  fill_namespace_ids(namespaces_->outside(), own);
  inventory.set_root_cg_set(cgroups::SavedCgroups::kOwnSet);
  inventory.set_lsmtype(pb::NO_LSM);
  inventory.set_tcp_close(options_.tcp_close);
  if (options_.track_memory) inventory.set_dump_uptime(uptime_microseconds());
  // Nothing is locked by the engine: connections are not saved yet.
  inventory.set_network_lock_method(0);
  if (options_.cpu.record) TRY(save_cpu(*out_));
  return out_->write(images::kInventory, std::nullopt, inventory);
}

Result<> Checkpoint::seal() {
  images::ManifestInfo info;
  info.tasks = report_.tasks;
  info.threads = report_.threads;
  info.pages = report_.pages_written + report_.shared_pages_written;
  info.root_comm = stopped_->tree.root().comm;
  info.generation = generation_;
  if (uses_parent_) info.parent = parent_->generation();
  return out_->seal(info, options_.sync_images);
}

// While the tasks are still stopped: what they run with afterwards is settled.
Result<> Checkpoint::settle_tracking() {
  if (options_.track_memory && options_.after != AfterDump::kKill) return tracking_->go_on(generation_);
  return options_.after == AfterDump::kKill ? Result<>{} : tracking_->end();
}

// The checkpoint stands; that its parents are larger than they need be is no failure.
void Checkpoint::drop_replaced_pages() {
  if (!options_.auto_dedup || !uses_parent_) return;
  if (const Result<> dropped = dedup(options_.images_dir); !dropped)
    options_.log->warn("pages of the parent images could not be dropped: {}", dropped.error().message());
}

// A container that was paused never runs: it is frozen again when its tasks are as they were, and before
// they are let go.
Result<> Checkpoint::put_back(bool stopped) {
  Result<> outcome;
  const auto note = [&](Result<> step) {
    if (!step && outcome) outcome = std::move(step);
  };
  if (stopped_)
    for (auto& held : stopped_->held)
      if (held) note(held->withdraw());
  if (freezer_) note(freezer_->finish(cgroups::Freezer::Leave::kAsFound));
  if (stopped_)
    for (auto& held : stopped_->held)
      if (held) note(held->release(stopped));
  return outcome;
}

Result<> Checkpoint::release() {
  Result<> outcome;
  const auto note = [&](Result<> step) {
    if (!step && outcome) outcome = std::move(step);
  };
  // Leaving tasks behind is not an option: each is dealt with, whatever happened to another.
  if (options_.after == AfterDump::kKill) {
    for (auto& held : stopped_->held)
      if (held) note(held->begin_kill());
    // A process is not gone before its memory is freed: two are quicker at it. It ends without this, too.
    for (const Task* task : large_) (void)sys::process_mrelease(task->pidfd.get());
    for (auto& held : stopped_->held)
      if (held) note(held->finish_kill(parasite::within(std::chrono::seconds(10))));
    if (freezer_) note(freezer_->finish(cgroups::Freezer::Leave::kThawed));
    note(tracking_->end());
  } else {
    note(put_back(options_.after == AfterDump::kStop));
  }
  report_.frozen = since(frozen_at_);
  return outcome;
}

}  // namespace

std::expected<CheckpointReport, Failures> checkpoint(const CheckpointOptions& options) {
  Checkpoint work(options);
  const Result<> done = work.run();
  if (done) return work.report();
  work.discard();
  Failures failures{std::move(work).blockers()};
  if (failures.all.empty()) failures.all.push_back(done.error());
  return std::unexpected(std::move(failures));
}

}  // namespace dormouse::engine
