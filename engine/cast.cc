#include "engine/cast.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <set>
#include <thread>
#include <unordered_map>

#include "base/fd.h"
#include "base/format.h"
#include "engine/ipc/attachments.h"
#include "kernel/features.h"
#include "kernel/file.h"
#include "kernel/proc/directory.h"
#include "kernel/process.h"
#include "kernel/socket.h"
#include "parasite/host/receive.h"

namespace dormouse::engine {
namespace {

std::string name_of(const ImageTask& task) { return format("pid {} ({})", task.tree.pid(), task.core.tc().comm()); }

// The first of those that are higher than any number in use at any time of the restore.
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

Result<> check_32_bit_code(const RestoreContext& context) {
  const auto& tasks = context.image.tasks;
  const auto task = std::ranges::find_if(tasks, &ImageTask::needs_32_bit_calls);
  if (task == tasks.end()) return {};
  const auto features = TRY(sys::Features::make(context.options.without));
  if (features.has(sys::Feature::kCompatTasks)) return {};
  return fail(Error::unsupported("it runs 32-bit code, which this kernel does not").owner(name_of(*task)).object("program")
                  .remedy("restore on a kernel with CONFIG_IA32_EMULATION, not switched off (ia32_emulation=on)"));
}

}  // namespace

Result<> Cast::plan() {
  TRY(check_32_bit_code(context_));
  family_ = TRY(plan_family(context_.image, context_.options.shell_job));
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
  helper_slot_ = slots++;
  for (std::size_t i = 0; i < family_.adoptions.size(); ++i)
    midwives_.push_back({slots++, 0, 0, format("midwife {}", i)});
  for (const StandIn& stand_in : family_.stand_ins) {
    helper_tid_ = std::max(helper_tid_, static_cast<pid_t>(stand_in.pid) + 1);
    stand_ins_.push_back({slots++, 0, static_cast<pid_t>(stand_in.pid), format("the stand-in for leader {}", stand_in.pid)});
  }
  know_by_number();
  constexpr std::size_t kProgramBytes = 16 << 20;  // virtual; only what is used exists
  const std::size_t area = parasite::Area::size_for(slots, kProgramBytes);
  const auto taken = TRY(own_mappings());
  constexpr std::uint64_t kHugePage = 2 << 20;
  const std::uint64_t room = attaching_bytes(context_.image);
  const std::uint64_t reserve = area + images::kPageChunkBytes + (room ? room + kHugePage : 0);
  const std::uint64_t address = TRY(find_common_hole(context_.image, taken, reserve));
  scratch_ = address + area;
  attaching_room_ = (scratch_ + images::kPageChunkBytes + kHugePage - 1) / kHugePage * kHugePage;
  TRY(plan_vdsos({address, address + reserve}));
  yard_ = TRY(parasite::PuppetYard::create(keeper_, address, slots, kProgramBytes));
  service_ = TRY(ServiceSockets::create(service_number(context_.image)));
  return {};
}

// `reserved`: what the puppets keep for themselves.
Result<> Cast::plan_vdsos(const AddressRange& reserved) {
  const Vdso own = TRY(own_vdso());
  std::optional<Vdso> own32;
  for (Actor& actor : actors_) {
    const ImageTask& image = *actor.image;
    if (image.is_32_bit() && !own32) own32 = TRY(own_vdso32());
    if (image.mm) actor.vdso = TRY(plan_vdso(context_, image, image.is_32_bit() ? *own32 : own, std::span(&reserved, 1)));
  }
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

namespace {

// Whether somebody has the number who can be expected to go: a zombie, or the rest of a session or group whose leader is
// gone. F_SETOWN takes the number of anything but one that nothing has (ESRCH).
bool is_left_over(pid_t number, int any_file) {
  const auto dir = proc::ProcDir::open(number);
  if (const auto status = dir ? dir->status() : fail(dir.error())) return status->state == 'Z' || status->state == 'X';
  const auto owned = sys::fcntl(any_file, F_SETOWN, number);
  return owned || !owned.error().is_kernel(ESRCH);
}

}  // namespace

// Right after a checkpoint, tasks that it ended may still be zombies that nobody has collected: until then their numbers, and
// those of their sessions and groups, are taken. Who does not go in time is told of by the births.
Result<> Cast::await_former_tasks() const {
  constexpr auto kPatience = std::chrono::seconds(3);
  constexpr auto kBetweenLooks = std::chrono::milliseconds(5);
  const parasite::Deadline deadline = parasite::within(kPatience);
  const Fd any_file = TRY(sys::openat(AT_FDCWD, "/dev/null", O_RDONLY));
  const auto await = [&](const parasite::Puppet& puppet) {
    while (is_left_over(puppet.ns_tid, any_file.get()) && std::chrono::steady_clock::now() < deadline)
      std::this_thread::sleep_for(kBetweenLooks);
  };
  for (const Actor& actor : actors_) await(actor.threads.front());
  for (const parasite::Puppet& stand_in : stand_ins_) await(stand_in);
  return {};
}

Result<> Cast::clone_root(const NamespacePlan& namespaces) {
  TRY(prepare_cgroups());
  own_pid_namespace_ = namespaces.create & CLONE_NEWPID;
  if (!own_pid_namespace_) TRY(await_former_tasks());
  Actor& root = actors_.front();
  birth_.emplace(context_, *yard_, service_);
  TRY(birth_->clone(namespaces, root.threads.front()));
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
    const auto found = by_number_.find(ns_pid);
    return found == by_number_.end() ? 0 : found->second->tid;
  });
  shared_ = TRY(SharedMemory::make(context_));
  pages_restored_ += shared_->pages();
  return {};
}

// One message after the other.
Result<> Cast::hand_out(const parasite::Puppet& to, const std::vector<int>& descriptors) {
  for (std::size_t from = 0; from < descriptors.size(); from += sys::kMaxFdsPerMessage) {
    const std::size_t count = std::min(sys::kMaxFdsPerMessage, descriptors.size() - from);
    parasite::Program program;
    const Handover sent = TRY(append_hand_out(program, 0, std::span(descriptors).subspan(from, count), from));
    TRY(check_arrival(to, sent, TRY(yard_->run(to, program))));
  }
  return {};
}

Result<Handover> Cast::append_hand_out(parasite::Program& program, std::size_t lane, std::span<const int> descriptors,
                                       std::size_t first) {
  Handover sent{first, descriptors.size(), {}};
  if (descriptors.empty()) return sent;
  TRY(sys::send_with_fds(service_.ours(lane), std::as_bytes(std::span("f", 1)), descriptors));
  sent.numbers = parasite::append_receive(program, service_.number(lane), descriptors.size());
  return sent;
}

Result<> Cast::check_arrival(const parasite::Puppet& to, const Handover& sent, const parasite::Placed& placed) {
  for (std::size_t i = 0; i < sent.count; ++i)
    if (placed.value<std::int32_t>(sent.numbers + static_cast<std::uint32_t>(4 * i)) != static_cast<std::int32_t>(sent.first + i))
      return fail(Error::unsupported("a descriptor arrived under another number than expected").owner(to.name));
  return {};
}

Cast::~Cast() {
  if (handed_over_ || root_pid_ == 0) return;
  std::set<pid_t> left;
  for (const Actor& actor : actors_)
    for (const parasite::Puppet& puppet : actor.threads)
      if (puppet.tid != 0) left.insert(puppet.tid);
  for (const parasite::Puppet& stand_in : stand_ins_)
    if (stand_in.tid != 0) left.insert(stand_in.tid);
  for (const parasite::Puppet& midwife : midwives_)
    if (midwife.tid != 0) left.insert(midwife.tid);
  for (const pid_t tid : left) (void)sys::kill(tid, SIGKILL);
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
