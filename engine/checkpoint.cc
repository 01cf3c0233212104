// The table of contents of a checkpoint; each step says what holds afterwards.

#include "engine/checkpoint.h"

#include <fcntl.h>
#include <sched.h>

#include <algorithm>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>

#include "base/defer.h"
#include "base/format.h"
#include "cgroups/freezer.h"
#include "cgroups/save.h"
#include "engine/cpu/cpuinfo.h"
#include "engine/dedup.h"
#include "engine/files/files_dump.h"
#include "engine/inventory.h"
#include "engine/ipc/attachments.h"
#include "engine/memory/page_tracking.h"
#include "engine/memory/pages_dump.h"
#include "engine/memory/parent_pages.h"
#include "engine/mounts/mount_table.h"
#include "engine/mounts/mounts_dump.h"
#include "engine/namespaces/namespaces.h"
#include "engine/release_tree.h"
#include "engine/stats.h"
#include "engine/stop_tree.h"
#include "engine/subjects.h"
#include "engine/tree_images.h"
#include "images/schema/files.pb.h"

namespace dormouse::engine {
namespace {

class Checkpoint {
 public:
  explicit Checkpoint(const CheckpointOptions& options) : options_(options) {}

  Result<> run();
  // After a failure: what was written is no checkpoint, and does not look like one.
  void discard() {
    (void)put_back(stopped_ ? &*stopped_ : nullptr, freezer(), false);
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
  [[nodiscard]] Result<> describe_tasks() { return subjects_->read(*stopped_, features_, filters_); }
  void check_session();
  [[nodiscard]] Result<> describe_surroundings();
  [[nodiscard]] Result<> begin_cgroups();
  [[nodiscard]] Result<> save_fs(Subject& subject);
  [[nodiscard]] Result<> each_after_a_look(std::initializer_list<const char*> links,
                                           const std::function<Result<>(Subject&)>& step);
  [[nodiscard]] Result<> save_tasks();
  [[nodiscard]] Result<> save_memory();
  [[nodiscard]] Result<> seal();
  [[nodiscard]] Result<> settle_tracking();
  void drop_replaced_pages();
  [[nodiscard]] Result<> release();
  [[nodiscard]] Result<> no_blockers();
  cgroups::Freezer* freezer() { return freezer_ ? &*freezer_ : nullptr; }

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
  std::vector<const Task*> large_;  // see kill_tree()
  SeccompTable filters_;
  std::optional<cgroups::Layout> layout_;
  std::optional<cgroups::SavedCgroups> cgroups_;
  std::optional<Subjects> subjects_;
  Clock::time_point frozen_at_;
};

Result<> Checkpoint::run() {
  TRY(notify("pre-dump"));
  TRY(look());      // nothing is touched yet; options and kernel are known to be good
  TRY(stop());      // every thread of the tree is in a ptrace stop
  TRY(identify());  // what is shared with whom has numbers
  const bool own_network = namespaces_->own() & CLONE_NEWNET;
  if (own_network) TRY(notify("network-lock"));
  Defer unlock{[&] { if (own_network) (void)notify("network-unlock"); }};
  TRY(notify("query-ext-files"));
  TRY(describe_tasks());           // registers, queued signals and mappings are read
  TRY(describe_surroundings());    // namespaces, mounts, descriptors, cgroups
  TRY(no_blockers());              // nothing stands in the way: now the tasks are borrowed
  TRY(subjects_->enter());         // every thread serves the interpreter
  TRY(subjects_->ask());           // what only the tasks can tell is known
  TRY(namespaces_->save_clocks(*context_));
  TRY(no_blockers());
  TRY(save_tasks());
  TRY(save_memory());
  TRY(save_inventory(*context_, subjects_->probed()));
  TRY(seal());                     // from here on it is a checkpoint
  TRY(notify("post-dump"));
  TRY(settle_tracking());          // goes on, or is gone
  files_->keep();                  // names made in the file system stay for the restore
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
  const bool must_end_unseen = !tracking_->shows_in_mappings() && options_.after != AfterDump::kKill;
  if (options_.track_memory || parent_ || must_end_unseen) tracking_->look();
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
  subjects_.emplace(*context_, *keeper_);
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
  std::vector<const Task*> with_table;
  for (Subject& subject : subjects_->all())
    if (subject.task.owns_files) with_table.push_back(&subject.task);
  blockers_.note(files_->save_tables(with_table));
  blockers_.note(files_->save_in_flight());
  for (Subject& subject : subjects_->all()) blockers_.note(subject.space.save_memory_files(subject.task, *files_));
  TRY(each_after_a_look({"exe"}, [&](Subject& subject) -> Result<> {
    blockers_.note(subject.space.save_files(subject.task, *files_));
    return {};
  }));
  TRY(namespaces_->save(*context_));
  for (Subject& subject : subjects_->all())
    check_attachments(*context_, subject.task, subject.space.vmas(), namespaces_->own() & CLONE_NEWIPC,
                      namespaces_->segments());
  if (namespaces_->own() & CLONE_NEWNS)
    blockers_.note(save_mounts(*context_, root, *mounts_, namespaces_->ids_of(root).mnt));
  return begin_cgroups();
}

// What these links of the tasks lead to is looked at many at a time, each just before it is needed.
Result<> Checkpoint::each_after_a_look(std::initializer_list<const char*> links,
                                       const std::function<Result<>(Subject&)>& step) {
  constexpr std::size_t kAtOnce = 64;
  const std::span<Subject> all = subjects_->all();
  for (std::size_t from = 0; from < all.size(); from += kAtOnce) {
    const auto some = all.subspan(from, std::min(kAtOnce, all.size() - from));
    std::vector<const Task*> tasks;
    for (const Subject& subject : some) tasks.push_back(&subject.task);
    for (const char* link : links) files_->look_ahead(tasks, link, O_RDONLY);
    for (Subject& subject : some) TRY(step(subject));
  }
  return {};
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
  fs.set_umask(task.umask);
  return out_->write(images::kFs, task.ns_pid, fs);
}

Result<> Checkpoint::save_tasks() {
  TRY(save_tree(*context_));
  TRY(subjects_->find_cgroups(*cgroups_));
  TRY(each_after_a_look({"cwd", "root"}, [&](Subject& subject) { return save_fs(subject); }));
  TRY(subjects_->write());
  for (const auto& task : stopped_->tree.tasks)
    if (!task->alive()) TRY(write_zombie_core(*context_, *task));
  TRY(filters_.write(*out_));
  TRY(files_->finish());
  if (options_.cpu.record) TRY(save_cpu(*out_));
  return cgroups_->write(*out_);
}

// So many private pages take longer to free than it takes to ask for it. Where they are in small mappings, these are most of the
// work, which is done twice then (__oom_reap_task_mm() in mm/oom_kill.c flushes after each).
constexpr std::uint64_t kManyPages = (16 << 20) / 4096, kManyOfOneMapping = 64;
bool is_large(const PagesDump::Memory& memory) {
  return memory.pages >= kManyPages && memory.pages >= kManyOfOneMapping * memory.space.maps().size();
}

Result<> Checkpoint::save_memory() {
  const auto start = Clock::now();
  const bool again = options_.track_memory && options_.after != AfterDump::kKill;
  PagesDump pages(*context_, {*tracking_, options_.track_memory && parent_ ? &*parent_ : nullptr, again});
  std::vector<PagesDump::Memory> memories;
  for (Subject& subject : subjects_->all()) {
    if (!subject.task.owns_vm) continue;
    if (again && TRY(tracking_->needs_descriptor(subject.task)))
      TRY(tracking_->make_descriptor(subject.task, *keeper_, subject.held));
    memories.push_back({subject.task, subject.dir, subject.space, subject.held, subjects_->restartable_areas(subject.task),
                        subject.space.take_early()});
  }
  TRY(pages.save(*keeper_, memories));
  for (const PagesDump::Memory& memory : memories) {
    if (is_large(memory)) large_.push_back(&memory.task);
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

Result<> Checkpoint::release() {
  Result<> outcome;
  if (options_.after == AfterDump::kKill) {
    outcome = kill_tree(*stopped_, freezer(), large_);
    if (Result<> ended = tracking_->end(); !ended && outcome) outcome = std::move(ended);
  } else {
    outcome = put_back(&*stopped_, freezer(), options_.after == AfterDump::kStop);
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
