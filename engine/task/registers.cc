#include "engine/task/registers.h"

#include <elf.h>

#include <cstring>
#include <span>

#include "base/format.h"
#include "images/schema/task.pb.h"
#include "kernel/ptrace.h"

namespace dormouse::engine {
namespace {

// What the kernel gives new threads: every key but 0 is denied (init_pkru, arch/x86/mm/pkeys.c).
constexpr std::uint32_t kDefaultPkru = 0x55555554;
constexpr std::uint64_t kUserDataSegment = 0x2b;
constexpr std::uint64_t kNoSystemCall = ~std::uint64_t{0};
// Flags that user mode may have set: what a signal return lets through, besides the always-set bit 1 and IF.
constexpr std::uint64_t kUserFlags = 0x50dd5;  // AC RF OF DF TF SF ZF AF PF CF
constexpr std::uint64_t kFixedFlags = 0x202;

struct Legacy {
  std::uint16_t cwd, swd, twd, fop;
  std::uint64_t rip, rdp;
  std::uint32_t mxcsr, mxcsr_mask;
  std::uint32_t st_space[32], xmm_space[64], padding[24];
};
static_assert(sizeof(Legacy) == kLegacyBytes);

using Xsave = pb::user_x86_xsave_entry;

// The components that the format has a list for; all others must be unused.
template <class Number>
struct List {
  unsigned component;
  std::string_view name;
  std::uint32_t bytes;
  const google::protobuf::RepeatedField<Number>& (Xsave::*get)() const;
  google::protobuf::RepeatedField<Number>* (Xsave::*edit)();
};
constexpr List<std::uint32_t> kLists32[] = {
    {kYmmHigh, "AVX registers", 256, &Xsave::ymmh_space, &Xsave::mutable_ymmh_space},
    {kPkru, "memory protection keys", 8, &Xsave::pkru, &Xsave::mutable_pkru},
};
constexpr List<std::uint64_t> kLists64[] = {
    {kBndRegs, "MPX bounds", 64, &Xsave::bndreg_state, &Xsave::mutable_bndreg_state},
    {kBndCsr, "MPX configuration", 64, &Xsave::bndcsr_state, &Xsave::mutable_bndcsr_state},
    {kOpmask, "AVX-512 mask registers", 64, &Xsave::opmask_reg, &Xsave::mutable_opmask_reg},
    {kZmmHigh256, "AVX-512 registers 0 to 15", 512, &Xsave::zmm_upper, &Xsave::mutable_zmm_upper},
    {kHi16Zmm, "AVX-512 registers 16 to 31", 1024, &Xsave::hi16_zmm, &Xsave::mutable_hi16_zmm},
};
constexpr std::uint64_t kKnown = bit(kX87) | bit(kSse) | bit(kYmmHigh) | bit(kBndRegs) | bit(kBndCsr) |
                                 bit(kOpmask) | bit(kZmmHigh256) | bit(kHi16Zmm) | bit(kPkru);

template <class Visitor>
Result<> for_each_list(Visitor&& visit) {
  for (const auto& list : kLists32) TRY(visit(list));
  for (const auto& list : kLists64) TRY(visit(list));
  return {};
}

std::string_view unknown_name(std::uint64_t components) {
  if (components & (bit(kTileConfig) | bit(kTileData))) return "AMX tiles";
  return "extended registers unknown to the image format";
}

// --- saving -------------------------------------------------------------------------------------

// What 32-bit code does not have is zero: the bases of FS and GS are those of the segments they name.
user_regs_struct lower_halves(const user_regs_struct& of) {
  const auto low = [](unsigned long long value) { return value & 0xffffffff; };
  user_regs_struct r{};
  r.rbp = low(of.rbp), r.rbx = low(of.rbx), r.rax = low(of.rax), r.rcx = low(of.rcx);
  r.rdx = low(of.rdx), r.rsi = low(of.rsi), r.rdi = low(of.rdi);
  r.rip = low(of.rip), r.rsp = low(of.rsp), r.eflags = low(of.eflags), r.orig_rax = low(of.orig_rax);
  r.cs = of.cs, r.ss = of.ss, r.ds = of.ds, r.es = of.es, r.fs = of.fs, r.gs = of.gs;
  return r;
}

void save_general(const user_regs_struct& kernel, pb::user_x86_regs_entry& to) {
  const bool is_32 = parasite::runs_32_bit_code(kernel);
  const user_regs_struct now = parasite::resumable(kernel);
  const user_regs_struct r = is_32 ? lower_halves(now) : now;
  to.set_r15(r.r15), to.set_r14(r.r14), to.set_r13(r.r13), to.set_r12(r.r12);
  to.set_r11(r.r11), to.set_r10(r.r10), to.set_r9(r.r9), to.set_r8(r.r8);
  to.set_bp(r.rbp), to.set_bx(r.rbx), to.set_ax(r.rax), to.set_cx(r.rcx);
  to.set_dx(r.rdx), to.set_si(r.rsi), to.set_di(r.rdi);
  to.set_ip(r.rip), to.set_sp(r.rsp), to.set_flags(r.eflags);
  to.set_cs(r.cs), to.set_ss(r.ss), to.set_ds(r.ds), to.set_es(r.es), to.set_fs(r.fs), to.set_gs(r.gs);
  to.set_fs_base(r.fs_base), to.set_gs_base(r.gs_base);
  // Tells people (and debuggers, once the image is made a core file) which call the thread was in. Nobody
  // restores it: the call is issued again.
  to.set_orig_ax(is_32 ? kernel.orig_rax & 0xffffffff : kernel.orig_rax);
  to.set_mode(is_32 ? pb::COMPAT : pb::NATIVE);
}

void save_legacy(const Legacy& from, pb::user_x86_fpregs_entry& to) {
  to.set_cwd(from.cwd), to.set_swd(from.swd), to.set_twd(from.twd), to.set_fop(from.fop);
  to.set_rip(from.rip), to.set_rdp(from.rdp);
  to.set_mxcsr(from.mxcsr), to.set_mxcsr_mask(from.mxcsr_mask);
  to.mutable_st_space()->Add(std::begin(from.st_space), std::end(from.st_space));
  to.mutable_xmm_space()->Add(std::begin(from.xmm_space), std::end(from.xmm_space));
}

// --- restoring ----------------------------------------------------------------------------------

Result<user_regs_struct> general_of(const pb::user_x86_regs_entry& from) {
  const bool is_32 = from.mode() == pb::COMPAT;
  user_regs_struct r{};
  r.r15 = from.r15(), r.r14 = from.r14(), r.r13 = from.r13(), r.r12 = from.r12();
  r.r11 = from.r11(), r.r10 = from.r10(), r.r9 = from.r9(), r.r8 = from.r8();
  r.rbp = from.bp(), r.rbx = from.bx(), r.rax = from.ax(), r.rcx = from.cx();
  r.rdx = from.dx(), r.rsi = from.si(), r.rdi = from.di();
  r.rip = from.ip(), r.rsp = from.sp();
  r.fs_base = from.fs_base(), r.gs_base = from.gs_base();
  // What user mode could not have had, the image cannot bring in. Segments other than the standard ones
  // would name descriptors that do not exist in the new task.
  r.eflags = (from.flags() & kUserFlags) | kFixedFlags;
  r.cs = is_32 ? parasite::kCode32 : parasite::kCode64, r.ss = kUserDataSegment;
  r.ds = from.ds() & 0xffff, r.es = from.es() & 0xffff, r.fs = from.fs() & 0xffff, r.gs = from.gs() & 0xffff;
  // The puppet is stopped inside a system call of its own, which must not be restarted.
  r.orig_rax = kNoSystemCall;
  if (!is_32) return r;
  user_regs_struct lower = lower_halves(r);
  lower.orig_rax = kNoSystemCall;
  return lower;
}

Result<Legacy> legacy_of(const XstateLayout& cpu, const pb::user_x86_fpregs_entry& from) {
  Legacy legacy{};
  if (from.st_space_size() < 32 || from.xmm_space_size() < 64)
    return fail(Error::corrupt("too few floating point registers"));
  legacy.cwd = static_cast<std::uint16_t>(from.cwd()), legacy.swd = static_cast<std::uint16_t>(from.swd());
  legacy.twd = static_cast<std::uint16_t>(from.twd()), legacy.fop = static_cast<std::uint16_t>(from.fop());
  legacy.rip = from.rip(), legacy.rdp = from.rdp();
  legacy.mxcsr = from.mxcsr(), legacy.mxcsr_mask = cpu.mxcsr_mask;
  std::memcpy(legacy.st_space, from.st_space().data(), sizeof legacy.st_space);
  std::memcpy(legacy.xmm_space, from.xmm_space().data(), sizeof legacy.xmm_space);
  if (legacy.mxcsr & ~cpu.mxcsr_mask)
    return fail(Error::unsupported(format("SSE control bits {:#x} are in use, which this CPU lacks",
                                          legacy.mxcsr & ~cpu.mxcsr_mask)));
  return legacy;
}

// State that equals what a thread starts with is not in use, whatever the header says.
template <class Number>
bool in_initial_state(unsigned component, const google::protobuf::RepeatedField<Number>& values) {
  for (int i = 0; i < values.size(); ++i) {
    const std::uint64_t value = values[i];
    if (value != 0 && !(component == kPkru && i == 0 && value == kDefaultPkru)) return false;
  }
  return true;
}

template <class Number>
Result<> place_component(const XstateLayout& cpu, const List<Number>& list, const Xsave& xsave,
                         std::span<std::byte> area, std::uint64_t& present) {
  const auto& values = (xsave.*list.get)();
  if (!(xsave.xstate_bv() & bit(list.component)) || values.empty()) return {};
  const std::size_t bytes = static_cast<std::size_t>(values.size()) * sizeof(Number);
  if (bytes != list.bytes)
    return fail(Error::corrupt(format("{}: {} bytes instead of {}", list.name, bytes, list.bytes)));
  if (!cpu.has(list.component)) {
    if (in_initial_state(list.component, values)) return {};
    return fail(Error::unsupported(format("{} are in use, which this CPU (or its kernel) lacks", list.name))
                    .remedy("restore on a node whose CPU has them"));
  }
  const XstateLayout::Component where = cpu.components[list.component];
  if (where.size != list.bytes || where.offset + bytes > area.size())
    return fail(Error::unsupported(format("{} have an unexpected layout on this CPU", list.name)));
  std::memcpy(area.data() + where.offset, values.data(), bytes);
  present |= bit(list.component);
  return {};
}

// A thread that comes from a CPU without protection keys gets what a new thread would have, not the key
// register's hardware default of "everything allowed".
void place_default_pkru(const XstateLayout& cpu, std::span<std::byte> area, std::uint64_t& present) {
  if (!cpu.has(kPkru) || (present & bit(kPkru))) return;
  std::memcpy(area.data() + cpu.components[kPkru].offset, &kDefaultPkru, sizeof kDefaultPkru);
  present |= bit(kPkru);
}

Result<std::vector<std::byte>> xstate_of(const XstateLayout& cpu, const pb::user_x86_fpregs_entry& from) {
  std::vector<std::byte> area(std::max(cpu.size_bytes, kLegacyBytes + kXsaveHeaderBytes));
  const Legacy legacy = TRY(legacy_of(cpu, from));
  std::memcpy(area.data(), &legacy, sizeof legacy);
  // The legacy part of an image is always complete: a component in its initial state was written out so.
  std::uint64_t present = bit(kX87) | bit(kSse);
  const Xsave& xsave = from.xsave();
  if (const std::uint64_t unknown = xsave.xstate_bv() & ~kKnown; unknown != 0)
    return fail(Error::unsupported(format("{} are in use (components {:#x})", unknown_name(unknown), unknown)));
  if (xsave.cet().cet() != 0)
    return fail(Error::unsupported("the thread has a shadow stack (CET)")
                    .remedy("start the program with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off"));
  TRY(for_each_list([&](const auto& list) { return place_component(cpu, list, xsave, area, present); }));
  place_default_pkru(cpu, area, present);
  // xcomp_bv, the header's second word, stays 0: the standard layout.
  std::memcpy(area.data() + kLegacyBytes, &present, sizeof present);
  return area;
}

}  // namespace

Result<> save_registers(const XstateLayout& cpu, const parasite::Context& context, pb::thread_info_x86& to) {
  save_general(context.regs, *to.mutable_gpregs());
  const std::span<const std::byte> area = context.xstate;
  if (area.size() < kLegacyBytes + kXsaveHeaderBytes)
    return fail(Error::unsupported("the kernel tells no extended registers"));
  Legacy legacy;
  std::memcpy(&legacy, area.data(), sizeof legacy);
  save_legacy(legacy, *to.mutable_fpregs());

  Xsave& xsave = *to.mutable_fpregs()->mutable_xsave();
  std::uint64_t in_use = 0;
  std::memcpy(&in_use, area.data() + kLegacyBytes, sizeof in_use);
  if (const std::uint64_t unknown = in_use & ~kKnown; unknown != 0)
    return fail(Error::unsupported(format("{} are in use (components {:#x})", unknown_name(unknown), unknown))
                    .remedy("the image format has no place for them"));
  xsave.set_xstate_bv(in_use);
  // Components in their initial state are written too; the kernel has filled them in.
  TRY(for_each_list([&]<class Number>(const List<Number>& list) -> Result<> {
    const XstateLayout::Component where = cpu.components[list.component];
    if (!cpu.has(list.component)) return {};
    if (where.size != list.bytes || where.offset + list.bytes > area.size())
      return fail(Error::unsupported(format("{} have an unexpected layout on this CPU", list.name)));
    auto* values = (xsave.*list.edit)();
    values->Resize(static_cast<int>(list.bytes / sizeof(Number)), 0);
    std::memcpy(values->mutable_data(), area.data() + where.offset, list.bytes);
    return {};
  }));
  if (cpu.shadow_stacks) {
    xsave.mutable_cet()->set_cet(0);
    xsave.mutable_cet()->set_ssp(0);
  }
  return {};
}

Result<Registers> registers_for(const XstateLayout& cpu, const pb::core_entry& core) {
  if (core.mtype() != pb::core_entry::X86_64 || !core.has_thread_info())
    return fail(Error::unsupported("the image is of another kind of CPU").remedy("restore it on that kind"));
  Registers registers;
  registers.general = TRY(general_of(core.thread_info().gpregs()));
  if (core.thread_info().has_fpregs())
    registers.xstate = TRY(xstate_of(cpu, core.thread_info().fpregs()));
  // The leader's mask is in the part that the process has in common.
  registers.signal_mask = core.has_tc() ? core.tc().blk_sigset() : core.thread_core().blk_sigset();
  return registers;
}

Result<> set_general_registers(pid_t tid, const user_regs_struct& registers) {
  TRY(sys::ptrace::setregs(tid, registers));
  if (!parasite::runs_32_bit_code(registers)) return {};
  // Set once more in their 32-bit form, which is what the thread has by now, they bring the bases of FS and GS along
  // (putreg32, arch/x86/kernel/ptrace.c).
  std::byte same[sizeof(user_regs_struct)];
  const std::size_t bytes = TRY(sys::ptrace::getregset(tid, NT_PRSTATUS, same));
  return sys::ptrace::setregset(tid, NT_PRSTATUS, std::span(same, bytes));
}

Result<Registers> registers_of(const pb::core_entry& core) {
  return registers_for(XstateLayout::of_this_cpu(), core);
}

}  // namespace dormouse::engine
