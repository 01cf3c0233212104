#include "engine/memory/vdso.h"

#include <asm/prctl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/defer.h"
#include "base/format.h"
#include "base/pages.h"
#include "engine/memory/vdso_symbols.h"
#include "engine/memory/vma_kind.h"
#include "kernel/file.h"
#include "kernel/proc/directory.h"
#include "kernel/process.h"

namespace dormouse::engine {
namespace {

namespace s = vma_status;
// Where user mode ends.
constexpr std::uint64_t user_end(bool is_32) { return is_32 ? 0xffff'e000 : 0x7fff'ffff'f000; }

// What a function does where this kernel's vdso has none of that name. All of them have a system call with
// the same arguments; getrandom's additional ones (its state) do not matter to the call.
struct SystemCall {
  std::string_view name;
  std::uint32_t number;
};
constexpr SystemCall kSystemCalls[] = {
    {"__vdso_clock_gettime", SYS_clock_gettime}, {"__vdso_clock_getres", SYS_clock_getres},
    {"__vdso_gettimeofday", SYS_gettimeofday},   {"__vdso_time", SYS_time},
    {"__vdso_getcpu", SYS_getcpu},               {"__vdso_getrandom", SYS_getrandom},
};
constexpr SystemCall kSystemCalls32[] = {  // i386 numbers; the longest name first where one begins with another
    {"__vdso_clock_gettime64", 403}, {"__vdso_clock_gettime", 265}, {"__vdso_clock_getres_time64", 406},
    {"__vdso_clock_getres", 266},    {"__vdso_gettimeofday", 78},   {"__vdso_time", 13},
    {"__vdso_getcpu", 318},
};
// These need no data, and threads may stand in the middle of them.
constexpr std::string_view kStays[] = {"__kernel_sigreturn", "__kernel_rt_sigreturn"};

// The saved bytes of [start, end), if the image has all of them.
Result<std::vector<std::byte>> saved_bytes(const RestoreContext& context, const ImageTask& task,
                                           std::uint64_t start, std::uint64_t end) {
  std::vector<std::byte> bytes;
  for (const PageRun& run : task.pages) {
    if (run.start > start || end > run.end) continue;
    const Fd pages = TRY(context.open_page_file(run.file));
    bytes.resize(end - start);
    TRY(sys::pread_exactly(pages.get(), bytes, run.offset + (start - run.start)));
    break;
  }
  return bytes;
}

// What the image says of the task's vdso.
struct Mapped {
  const pb::vma_entry* code = nullptr;
  std::vector<const pb::vma_entry*> data;
};

Result<Mapped> find_mapped(const ImageTask& task) {
  Mapped mapped;
  for (const pb::vma_entry& vma : task.mm->vmas()) {
    if (vma.status() & s::kVvar) mapped.data.push_back(&vma);
    if (!(vma.status() & s::kVdso)) continue;
    // The kernel maps it once, and does not let it be split.
    if (mapped.code) return fail(Error::corrupt("two mappings of kernel code (vdso)"));
    mapped.code = &vma;
  }
  return mapped;
}

// A hole of `bytes`, as near above `near` as can be: there nothing grows but the program break, and the stack
// from above into the far end of a hole. Below `near` if there is none.
std::optional<std::uint64_t> hole_near(const ImageTask& task, std::span<const AddressRange> taken,
                                       std::uint64_t near, std::uint64_t bytes, bool is_32) {
  const std::uint64_t user_ends = user_end(is_32);
  std::vector<AddressRange> all(taken.begin(), taken.end());
  for (const pb::vma_entry& vma : task.mm->vmas()) all.push_back({vma.start(), vma.end()});
  const std::uint64_t room_to_grow = is_32 ? 256 << 20 : 1 << 30;
  all.push_back({0, 1 << 20});
  all.push_back({task.mm->mm_start_brk(), std::min(user_ends, task.mm->mm_brk() + room_to_grow)});
  all.push_back({user_ends, user_ends});
  std::ranges::sort(all, {}, &AddressRange::start);
  std::optional<std::uint64_t> below;
  std::uint64_t previous = 0;
  for (const AddressRange& range : all) {
    const std::uint64_t start = std::min(range.start, user_ends);
    if (start > previous && start - previous >= bytes) {
      if (previous >= near) return previous;
      below = previous;
    }
    previous = std::max(previous, range.end);
  }
  return below;
}

Result<std::uint64_t> find_place(const ImageTask& task, std::span<const AddressRange> taken, std::uint64_t near,
                                 const Vdso& own) {
  const auto place = hole_near(task, taken, near, own.bytes(), own.is_32);
  if (!place) return fail(Error::unsupported("no room in its address space for this kernel's vdso"));
  return *place;
}

// Where a piece of this kernel's data goes, if the image has it.
std::optional<std::uint64_t> place_of(const Vdso::Piece& piece, const Vdso& own, const Mapped& mapped) {
  std::uint64_t all_data = 0;
  for (const Vdso::Piece& other : own.pieces)
    if (!other.is_code) all_data += other.bytes;
  for (const pb::vma_entry* vma : mapped.data) {
    const std::uint64_t bytes = vma->end() - vma->start();
    if (bytes == all_data) return vma->start() + piece.offset;  // neighbours are one record
    if (bytes == piece.bytes) return vma->start();
  }
  return std::nullopt;
}

Result<> plan_pieces(VdsoPlan& plan, const ImageTask& task, const Mapped& mapped, const Vdso& own,
                     std::span<const AddressRange> taken) {
  struct Target {
    const Vdso::Piece* piece;
    std::optional<std::uint64_t> at;
  };
  std::vector<Target> targets;
  std::set<std::uint64_t> origins;  // where the whole would have to be for each piece to be in its place
  bool any = false;
  for (const Vdso::Piece& piece : own.pieces) {
    std::optional<std::uint64_t> target;
    if (!piece.is_code) target = place_of(piece, own, mapped);
    else if (mapped.code) target = mapped.code->start();
    any = any || target;
    origins.insert(target ? *target - piece.offset : 0);
    targets.push_back({&piece, target});
  }
  if (!any) return {};
  plan.map_bytes = own.bytes();
  if (origins.size() == 1) {
    plan.map_at = *origins.begin();
    return {};
  }
  plan.map_at = TRY(find_place(task, taken, mapped.code ? mapped.code->end() : 0, own));
  for (const Target& target : targets) {
    const std::uint64_t from = plan.map_at + target.piece->offset;
    if (target.at) plan.moves.push_back({from, *target.at, target.piece->bytes});
    else plan.unmaps.push_back({from, from + target.piece->bytes});
  }
  return {};
}

std::optional<std::uint32_t> system_call_of(std::string_view function, bool is_32) {
  const auto all = is_32 ? std::span<const SystemCall>(kSystemCalls32) : std::span<const SystemCall>(kSystemCalls);
  for (const auto& known : all)
    if (known.name == function || known.name.substr(sizeof "__vdso_" - 1) == function) return known.number;
  return std::nullopt;
}

// The code that takes the place of a function.
class Patch {
 public:
  Patch& bytes(std::initializer_list<unsigned char> some) {
    for (const unsigned char byte : some) code_.push_back(std::byte{byte});
    return *this;
  }
  template <class T>
  Patch& value(T number) {
    const auto raw = std::as_bytes(std::span(&number, 1));
    code_.insert(code_.end(), raw.begin(), raw.end());
    return *this;
  }
  const std::vector<std::byte>& code() const { return code_; }

 private:
  std::vector<std::byte> code_;
};

Patch jump(std::uint64_t from, std::uint64_t target, bool is_32) {
  // 32-bit addresses wrap around: every target is within reach.
  if (is_32) return Patch().bytes({0xe9}).value(static_cast<std::uint32_t>(target - (from + 5)));
  return Patch().bytes({0x48, 0xb8}).value(target).bytes({0xff, 0xe0});  // movabs $target, %rax; jmp *%rax
}

Patch system_call(std::uint32_t number, bool is_32) {
  if (!is_32) return Patch().bytes({0xb8}).value(number).bytes({0x0f, 0x05, 0xc3});
  // push %ebx; three arguments from the stack into ebx, ecx, edx; mov $number, %eax; int $0x80; pop %ebx; ret
  return Patch().bytes({0x53, 0x8b, 0x5c, 0x24, 0x08, 0x8b, 0x4c, 0x24, 0x0c, 0x8b, 0x54, 0x24, 0x10, 0xb8})
      .value(number).bytes({0xcd, 0x80, 0x5b, 0xc3});
}

// A thread that was about to run what becomes a jump would run half of one.
Result<> check_threads(const ImageTask& task, std::uint64_t from, std::uint64_t to) {
  const auto inside = [&](const pb::core_entry& core) {
    const std::uint64_t ip = core.thread_info().gpregs().ip();
    return ip > from && ip < to;
  };
  bool any = inside(task.core);
  for (const auto& [tid, core] : task.thread_cores) any = any || inside(core);
  if (!any) return {};
  return fail(Error::unsupported("a thread was just entering the vdso, which is not this kernel's")
                  .remedy("restore it on the kernel it was saved on, or save it again"));
}

// By offset. A function whose namesake is missing makes a system call; where there is neither it needs no data (the SGX
// entry is such a one) and works where it is.
Result<std::map<std::uint64_t, Patch>> plan_patches(const Mapped& mapped, std::span<const std::byte> code,
                                                    const Vdso& own, std::uint64_t own_code) {
  const auto here = TRY(vdso_functions(own.code));
  const auto there = TRY(vdso_functions(code));
  std::map<std::uint64_t, Patch> patches;
  for (const auto& [name, offset] : there) {
    if (std::ranges::find(kStays, name) != std::end(kStays)) continue;
    const auto target = here.find(name);
    const auto number = system_call_of(name, own.is_32);
    if (target != here.end()) patches[offset] = jump(mapped.code->start() + offset, own_code + target->second, own.is_32);
    else if (number) patches[offset] = system_call(*number, own.is_32);
    else continue;
    if (code.size() - offset < patches[offset].code().size())
      return fail(Error::unsupported(format("the vdso's function {} has no room for a jump", name)));
  }
  return patches;
}

Result<> plan_proxy(VdsoPlan& plan, const ImageTask& task, const Mapped& mapped, std::span<const std::byte> code,
                    const Vdso& own, std::span<const AddressRange> taken) {
  plan.proxied = true;
  plan.map_bytes = own.bytes();
  plan.map_at = TRY(find_place(task, taken, mapped.code->end(), own));
  const auto patches = TRY(plan_patches(mapped, code, own, plan.map_at + own.pieces.back().offset));
  std::vector<std::byte> patched(code.begin(), code.end());
  std::set<std::uint64_t> words;
  std::uint64_t free_from = 0;
  for (const auto& [offset, patch] : patches) {
    const std::uint64_t end = offset + patch.code().size();
    if (offset < free_from)
      return fail(Error::unsupported("the vdso's functions are too close to each other for jumps"));
    free_from = end;
    TRY(check_threads(task, mapped.code->start() + offset, mapped.code->start() + end));
    std::ranges::copy(patch.code(), patched.begin() + static_cast<std::ptrdiff_t>(offset));
    for (std::uint64_t word = offset / 8; word <= (end - 1) / 8; ++word) words.insert(8 * word);
  }
  for (const std::uint64_t offset : words) {
    VdsoPlan::Store store{mapped.code->start() + offset, 0};
    std::memcpy(&store.value, patched.data() + offset, sizeof store.value);
    plan.patches.push_back(store);
  }
  return {};
}

// The same size and shape is all that can be compared if the image has no bytes of it.
bool same_shape(const Mapped& mapped, const Vdso& own) {
  return mapped.data.size() == 1 && mapped.data[0]->end() == mapped.code->start() &&
         mapped.code->end() - mapped.data[0]->start() == own.bytes() &&
         mapped.code->end() - mapped.code->start() == own.code.size();
}

// `read`: from that process's memory.
template <class Read>
Result<Vdso> vdso_of(std::span<const proc::Vma> maps, Read&& read) {
  Vdso own;
  std::uint64_t start = 0, end = 0;
  for (const proc::Vma& vma : maps) {
    const bool is_code = vma.name == "[vdso]";
    if (!is_code && !vma.name.starts_with("[vvar")) continue;
    if (own.pieces.empty()) start = end = vma.start;
    if (vma.start != end) return fail(Error::unsupported("this kernel's vdso is not in one piece"));
    own.pieces.push_back({vma.start - start, vma.size_bytes(), is_code});
    end = vma.end;
    if (!is_code) continue;
    own.code.resize(vma.size_bytes());
    TRY(read(vma.start, std::span<std::byte>(own.code)));
  }
  if (own.code.empty() || !own.pieces.back().is_code)
    return fail(Error::unsupported("this kernel has no vdso"));
  return own;
}

Result<std::uint64_t> own_vdso_address() {
  for (const auto all = TRY(TRY(proc::ProcDir::self()).maps()); const proc::Vma& vma : all)
    if (vma.name == "[vdso]" || vma.name.starts_with("[vvar")) return vma.start;
  return fail(Error::unsupported("this kernel has no vdso"));
}

}  // namespace

Result<Vdso> own_vdso() {
  const auto dir = TRY(proc::ProcDir::self());
  return vdso_of(TRY(dir.maps()), [](std::uint64_t address, std::span<std::byte> to) -> Result<> {
    std::memcpy(to.data(), reinterpret_cast<const std::byte*>(address), to.size());
    return {};
  });
}

// The kernel maps it only where there is none: a child gives up its own. It may then call nothing that would look at
// the clock.
Result<Vdso> own_vdso32() {
  const Vdso own = TRY(own_vdso());
  const std::uint64_t start = TRY(own_vdso_address());
  const pid_t child = TRY(sys::clone3({}));
  if (child == 0) {
    ::syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    long done = ::syscall(SYS_munmap, start, own.bytes());
    if (done == 0) done = ::syscall(SYS_arch_prctl, ARCH_MAP_VDSO_32, 0);
    ::syscall(SYS_kill, ::syscall(SYS_getpid), done < 0 ? SIGKILL : SIGSTOP);
    for (;;) ::syscall(SYS_exit, 1);
  }
  const Defer end{[&] {
    (void)sys::kill(child, SIGKILL);
    (void)sys::waitid(P_PID, static_cast<id_t>(child), WEXITED | __WALL);
  }};
  const auto stopped = TRY(sys::waitid(P_PID, static_cast<id_t>(child), WSTOPPED | WEXITED | WNOWAIT | __WALL));
  if (!stopped || stopped->code != CLD_STOPPED) return fail(Error::unsupported("this kernel has no vdso for 32-bit code"));
  const auto dir = TRY(proc::ProcDir::open(child));
  Vdso found = TRY(vdso_of(TRY(dir.maps()), [&](std::uint64_t address, std::span<std::byte> to) {
    return sys::process_vm_read(child, address, to);
  }));
  found.is_32 = true;
  return found;
}

Result<VdsoPlan> plan_vdso(const ImageTask& task, std::span<const std::byte> code, const Vdso& own,
                           std::span<const AddressRange> taken) {
  VdsoPlan plan;
  plan.is_32 = own.is_32;
  const Mapped mapped = TRY(find_mapped(task));
  if (!mapped.code || same_vdso(code, own.code) || (code.empty() && same_shape(mapped, own))) {
    TRY(plan_pieces(plan, task, mapped, own, taken));
    return plan;
  }
  if (code.empty())
    return fail(Error::unsupported("its vdso is not this kernel's, and the image does not have its code")
                    .remedy("restore on a node that runs the kernel the checkpoint was made on"));
  TRY(plan_proxy(plan, task, mapped, code, own, taken));
  return plan;
}

Result<VdsoPlan> plan_vdso(const RestoreContext& context, const ImageTask& task, const Vdso& own,
                           std::span<const AddressRange> taken) {
  std::vector<std::byte> code;
  for (const pb::vma_entry& vma : task.mm->vmas())
    if (vma.status() & s::kVdso) code = TRY(saved_bytes(context, task, vma.start(), vma.end()));
  // Damaged is another thing than different.
  if (!code.empty() && !same_vdso(code, own.code)) TRY(context.in.verify_pages());
  return TRY_OR(plan_vdso(task, code, own, taken),
                std::move(e).owner(format("pid {} ({})", task.tree.pid(), task.core.tc().comm())));
}

void append_vdso_map(parasite::Program& program, const VdsoPlan& plan) {
  if (plan.map_at == 0) return;
  program.call("map the vdso", SYS_arch_prctl, {plan.is_32 ? ARCH_MAP_VDSO_32 : ARCH_MAP_VDSO_64, plan.map_at});
  for (const VdsoPlan::Move& move : plan.moves)
    program.call(format("move a part of the vdso to {:x}", move.to), SYS_mremap,
                 {move.from, move.bytes, move.bytes, MREMAP_MAYMOVE | MREMAP_FIXED, move.to},
                 parasite::exactly(static_cast<std::int64_t>(move.to)));
  for (const AddressRange& range : plan.unmaps)
    program.call("unmap a part of the vdso", SYS_munmap, {range.start, range.end - range.start});
}

void append_vdso_patches(parasite::Program& program, const VdsoPlan& plan) {
  for (const VdsoPlan::Store& store : plan.patches)
    program.perform(parasite::OpCode::kStore, "make the vdso's functions jump", {store.at, store.value});
}

}  // namespace dormouse::engine
