#include "engine/cast.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/format.h"
#include "kernel/proc/directory.h"
#include "kernel/process.h"
#include "kernel/socket.h"
#include "parasite/host/receive.h"

namespace dormouse::engine {
namespace {

constexpr std::uint64_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;

std::string name_of(const ImageTask& task) { return format("pid {} ({})", task.tree.pid(), task.core.tc().comm()); }

// Higher than any number that is in use at any time of the restore.
int service_number(const Image& image) {
  std::size_t highest = 64;
  for (const auto& [id, table] : image.descriptors)
    for (const pb::fdinfo_entry& entry : table) highest = std::max<std::size_t>(highest, entry.fd());
  return static_cast<int>(highest + image.files.size() + image.shmem.size() + 8);
}

Result<std::vector<pb::vma_entry>> own_mappings() {
  std::vector<pb::vma_entry> taken;
  for (const auto all = TRY(TRY(proc::ProcDir::self()).maps()); const proc::Vma& vma : all) {
    pb::vma_entry& entry = taken.emplace_back();
    entry.set_start(vma.start);
    entry.set_end(vma.end);
  }
  return taken;
}

// Tables and directories shared by processes that are not threads of each other.
Result<> refuse_sharing(const Image& image) {
  std::set<std::uint32_t> files, fs, vm;
  for (const ImageTask& task : image.tasks) {
    if (!task.alive()) continue;
    if (!files.insert(task.ids.files_id()).second || !fs.insert(task.ids.fs_id()).second ||
        !vm.insert(task.ids.vm_id()).second)
      return fail(Error::unsupported("it shares descriptors, directories or memory with another process")
                      .object(name_of(task)).remedy("CLONE_FILES, CLONE_FS and CLONE_VM are not supported yet"));
  }
  return {};
}

}  // namespace

Result<> Cast::plan() {
  TRY(refuse_sharing(context_.image));
  family_ = TRY(plan_family(context_.image, context_.options.shell_job));
  vdso_ = TRY(own_vdso());
  TRY(check_vdso(context_, vdso_));
  std::uint32_t slots = 0;
  actors_.resize(context_.image.tasks.size());
  for (std::size_t i = 0; i < actors_.size(); ++i) {
    Actor& actor = actors_[i];
    actor.image = &context_.image.tasks[i];
    actor.family = &family_.members[i];
    actor.parent = i == 0 ? nullptr : &actors_[actor.family->parent];
    for (const std::uint32_t tid : actor.image->tree.threads()) {
      helper_tid_ = std::max(helper_tid_, static_cast<pid_t>(tid) + 1);
      actor.threads.push_back({slots++, 0, static_cast<pid_t>(tid), name_of(*actor.image)});
    }
  }
  helper_slot_ = slots;
  constexpr std::size_t kProgramBytes = 16 << 20;  // virtual; only what is used exists
  const std::size_t area = parasite::Area::size_for(slots + 1, kProgramBytes);
  const auto taken = TRY(own_mappings());
  const std::uint64_t address = TRY(find_common_hole(context_.image, taken, area + images::kPageChunkBytes));
  scratch_ = address + area;
  yard_ = TRY(parasite::PuppetYard::create(keeper_, address, slots + 1, kProgramBytes));
  auto pair = TRY(sys::socketpair(AF_UNIX, SOCK_SEQPACKET));
  service_ = {std::move(pair.one), std::move(pair.other), service_number(context_.image)};
  return {};
}

namespace {

// Per thread since 4.0 of the format, per process before.
std::uint32_t cgroup_set(const pb::core_entry& core) {
  if (core.thread_core().has_cg_set()) return core.thread_core().cg_set();
  return core.has_tc() && core.tc().has_cg_set() ? core.tc().cg_set() : 0;
}

}  // namespace

Result<> Cast::prepare_cgroups() {
  layout_ = TRY(cgroups::Layout::discover(context_.options.cgroup_yard));
  cgroups::RestoreOptions options;
  options.mode = context_.options.cgroup_mode;
  options.roots = context_.options.cgroup_roots;
  options.own_set = context_.image.inventory.root_cg_set();
  const pb::cgroup_entry* record = context_.image.cgroups ? &*context_.image.cgroups : nullptr;
  cgroups_.emplace(TRY(cgroups::CgroupRestore::make(*layout_, record, std::move(options))));
  return cgroups_->prepare();
}

// The root first: children are born where it is.
Result<> Cast::place_in_cgroups() {
  for (const Actor& actor : actors_) {
    if (!actor.image->alive()) continue;
    const std::uint32_t set = cgroup_set(actor.image->core);
    const std::uint32_t from = cgroup_set(actors_.front().image->core);
    if (actor.parent) TRY(cgroups_->place(actor.threads.front().tid, {set, false}, {from, false}));
    for (std::size_t i = 1; i < actor.threads.size(); ++i)
      TRY(cgroups_->place_thread(actor.threads[i].tid, {cgroup_set(core_of(actor, actor.threads[i])), false}, {set, false}));
  }
  return cgroups_->apply_properties();
}

Result<> Cast::clone_root(const NamespacePlan& namespaces) {
  TRY(prepare_cgroups());
  own_pid_namespace_ = namespaces.create & CLONE_NEWPID;
  Actor& root = actors_.front();
  birth_.emplace(context_, *yard_, service_);
  TRY(birth_->clone(namespaces, root.threads.front()));
  root.born = true;
  root_pid_ = birth_->pid();
  const std::uint32_t set = cgroup_set(root.image->core);
  return cgroups_->place(root_pid_, {set, cgroups_->has_namespace(set)}, {});
}

Result<> Cast::build_root() {
  TRY(birth_->build());
  birth_->hand_over();
  const std::uint32_t set = cgroup_set(actors_.front().image->core);
  if (cgroups_->has_namespace(set)) TRY(cgroups_->place(root_pid_, {set, false}, {set, true}));
  parasite::Program empty;
  yard_->append_unmap_all(empty);
  return run(actors_.front(), empty);
}

Result<> Cast::run(const Actor& actor, const parasite::Program& program) {
  if (program.empty()) return {};
  TRY(yard_->run(actor.threads.front(), program));
  return {};
}

Result<> Cast::open_files() {
  Fd root = TRY(sys::openat(AT_FDCWD, format("/proc/{}/root", root_pid_), O_PATH | O_DIRECTORY));
  files_.emplace(TRY(FilesRestore::begin(context_, std::move(root))));
  TRY(files_->set_root_task(root_pid_));
  files_->set_pid_lookup([this](pid_t ns_pid) -> pid_t {
    for (const Actor& actor : actors_)
      for (const parasite::Puppet& puppet : actor.threads)
        if (puppet.ns_tid == ns_pid) return puppet.tid;
    return 0;
  });
  shared_ = TRY(SharedMemory::make(context_));
  pages_restored_ += shared_->pages();
  return {};
}

Result<> Cast::raise_tree() {
  TRY(raise(actors_.front()));
  TRY(join_groups());
  return bury_zombies();
}

Result<> Cast::raise(Actor& actor) {
  if (!actor.image->alive()) return {};
  const FamilyMember& member = *actor.family;
  parasite::Program first;
  const bool parent_was_empty = !actor.parent || !actor.parent->family->inherits_memory;
  if (!member.inherits_memory && (member.born != BornWhen::kEmpty || !parent_was_empty))
    yard_->append_unmap_all(first);
  if (member.makes_session && member.session_first) first.call("lead a session", SYS_setsid, {});
  TRY(run(actor, first));
  TRY(spawn_children(actor, BornWhen::kEmpty));
  TRY(build_memory(actor));
  TRY(spawn_children(actor, BornWhen::kWithMemory));
  parasite::Program second;
  if (member.makes_session && !member.session_first) second.call("lead a session", SYS_setsid, {});
  if (member.makes_group) second.call("lead a process group", SYS_setpgid, {0, 0});
  TRY(run(actor, second));
  TRY(spawn_children(actor, BornWhen::kInSession));
  parasite::Program third;
  actor.memory->append_late_advice(third);
  TRY(run(actor, third));
  TRY(spawn_threads(actor));
  for (const std::size_t child : member.children) TRY(raise(actors_[child]));
  return {};
}

Result<> Cast::spawn_children(Actor& parent, BornWhen when) {
  parasite::Program program;
  bool any = false;
  for (const std::size_t index : parent.family->children) {
    Actor& child = actors_[index];
    if (child.family->born != when) continue;
    const parasite::Puppet& puppet = child.threads.front();
    yard_->prepare(puppet.slot, true);
    yard_->append_spawn(program, puppet, 0, SIGCHLD);
    any = true;
  }
  if (!any) return {};
  if (const Result<> ran = run(parent, program); !ran) {
    (void)find_children(parent);  // those that were born have to be ended
    if (!ran.error().is_kernel(EEXIST)) return ran;
    for (const std::size_t index : parent.family->children) {
      const Actor& child = actors_[index];
      if (child.born || child.family->born != when) continue;
      const pid_t pid = child.threads.front().ns_tid;
      return fail(pid_taken(pid));
    }
    return ran;
  }
  return find_children(parent);
}

// The engine sees its puppets under other numbers than they do when they have a pid namespace.
Result<> Cast::find_children(Actor& parent) {
  const auto dir = TRY(proc::ProcDir::open(parent.threads.front().tid));
  for (const auto all = TRY(dir.children()); const pid_t pid : all) {
    context_.log.debug("{} has child {}", parent.threads.front().name, pid);
    const pid_t ns_pid = own_pid_namespace_ ? TRY(TRY(proc::ProcDir::open(pid)).status()).ns_pid.back() : pid;
    for (const std::size_t index : parent.family->children) {
      Actor& child = actors_[index];
      if (child.born || child.threads.front().ns_tid != ns_pid) continue;
      child.threads.front().tid = pid;
      child.born = true;
      child.executable = parent.executable;
      TRY(yard_->seize(child.threads.front()));
    }
  }
  return {};
}

Result<> Cast::spawn_threads(Actor& actor) {
  if (actor.threads.size() == 1) return {};
  parasite::Program program;
  for (std::size_t i = 1; i < actor.threads.size(); ++i) {
    yard_->prepare(actor.threads[i].slot, true);
    yard_->append_spawn(program, actor.threads[i], kThreadFlags, 0);
  }
  TRY(run(actor, program));
  const auto dir = TRY(proc::ProcDir::open(actor.threads.front().tid));
  for (const auto all = TRY(dir.threads()); const pid_t tid : all) {
    const pid_t ns_tid = own_pid_namespace_ ? TRY(TRY(dir.thread(tid)).status()).ns_pid.back() : tid;
    for (std::size_t i = 1; i < actor.threads.size(); ++i) {
      if (actor.threads[i].ns_tid != ns_tid) continue;
      actor.threads[i].tid = tid;
      TRY(yard_->seize(actor.threads[i]));
    }
  }
  return {};
}

Result<> Cast::join_groups() {
  for (Actor& actor : actors_) {
    if (!actor.family->joins_group || !actor.image->alive()) continue;
    parasite::Program program;
    program.call(format("join process group {}", actor.image->tree.pgid()), SYS_setpgid,
                 {0, actor.image->tree.pgid()});
    TRY(run(actor, program));
  }
  return {};
}

// A zombie's wait status: an exit code, or the signal that ended it.
Result<> Cast::bury_zombies() {
  for (Actor& actor : actors_) {
    if (actor.image->alive()) continue;
    const auto status = static_cast<int>(actor.image->core.tc().exit_code());
    parasite::Program program;
    const auto comm = program.text(actor.image->core.tc().comm());
    program.call("", SYS_prctl, {PR_SET_NAME, comm});
    if (actor.family->makes_session) program.call("lead a session", SYS_setsid, {});
    if (actor.family->makes_group) program.call("lead a process group", SYS_setpgid, {0, 0});
    if (actor.family->joins_group) program.call("join a group", SYS_setpgid, {0, actor.image->tree.pgid()});
    if (WIFSIGNALED(status)) {
      // Delivered when it is unblocked, with the default action: a puppet has no handlers.
      const auto none = program.value(std::uint64_t{0});
      program.call("", SYS_kill, {actor.threads.front().ns_tid, WTERMSIG(status)});
      program.call("", SYS_rt_sigprocmask, {SIG_SETMASK, none, 0, 8}, parasite::anything());
    }
    program.call("", SYS_exit_group, {WEXITSTATUS(status)});
    const Result<> ran = run(actor, program);
    if (ran || ran.error().kind() != Error::Kind::kTaskDied)
      return fail(Error::unsupported("it did not end as it should").object(name_of(*actor.image)));
    // The parent was told of it already, before the checkpoint.
    parasite::Program drain;
    const auto set = drain.value(std::uint64_t{1} << (SIGCHLD - 1));
    const auto now = drain.zeros(sizeof(timespec));
    drain.call("drop the signal of a child's end", SYS_rt_sigtimedwait, {set, 0, now, 8}, parasite::ok_or(EAGAIN));
    TRY(run(*actor.parent, drain));
  }
  return {};
}

Result<> Cast::hand_out(const parasite::Puppet& to, const std::vector<int>& descriptors) {
  for (std::size_t from = 0; from < descriptors.size(); from += sys::kMaxFdsPerMessage) {
    const std::size_t count = std::min(sys::kMaxFdsPerMessage, descriptors.size() - from);
    const std::span<const int> part(descriptors.data() + from, count);
    TRY(sys::send_with_fds(service_.ours.get(), std::as_bytes(std::span("f", 1)), part));
    parasite::Program program;
    const auto numbers = parasite::append_receive(program, service_.number, count);
    const auto placed = TRY(yard_->run(to, program));
    for (std::size_t i = 0; i < count; ++i)
      if (placed.value<std::int32_t>(numbers + static_cast<std::uint32_t>(4 * i)) != static_cast<std::int32_t>(from + i))
        return fail(Error::unsupported("a descriptor arrived under another number than expected").owner(to.name));
  }
  return {};
}

Cast::~Cast() {
  if (handed_over_ || root_pid_ == 0) return;
  std::set<pid_t> left;
  for (const Actor& actor : actors_)
    for (const parasite::Puppet& puppet : actor.threads)
      if (puppet.tid != 0) left.insert(puppet.tid);
  for (const Actor& actor : actors_)
    if (actor.born) (void)sys::kill(actor.threads.front().tid, SIGKILL);
  // The init of a pid namespace ends only when everybody in it has been collected, and who is traced is
  // collected by its tracer.
  while (!left.empty()) {
    int status = 0;
    const pid_t pid = ::waitpid(-1, &status, __WALL);
    if (pid < 0 && errno == EINTR) continue;
    if (pid < 0) break;
    if (!WIFSTOPPED(status)) left.erase(pid);
  }
}

}  // namespace dormouse::engine
