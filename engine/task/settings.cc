#include "engine/task/settings.h"

#include <asm/ldt.h>
#include <linux/membarrier.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cerrno>

#include "base/format.h"
#include "base/text.h"
#include "images/schema/memory.pb.h"
#include "images/schema/task.pb.h"
#include "kernel/process.h"
#include "kernel/ptrace.h"

namespace dormouse::engine {
namespace {

constexpr int kGetRegistrations = 1 << 9;  // MEMBARRIER_CMD_GET_REGISTRATIONS, Linux 6.3
constexpr int kBarriers[3] = {MEMBARRIER_CMD_PRIVATE_EXPEDITED, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE,
                              1 << 7};  // MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ
constexpr unsigned kFirstTlsSlot = 12;   // GDT_ENTRY_TLS_MIN of a 64-bit kernel
constexpr unsigned kTlsSlots = 3;

void save_segment(const user_desc& from, pb::user_desc_t& to) {
  to.set_entry_number(from.entry_number);
  to.set_base_addr(from.base_addr);
  to.set_limit(from.limit);
  to.set_seg_32bit(from.seg_32bit);
  to.set_contents_h(from.contents & 2);
  to.set_contents_l(from.contents & 1);
  to.set_read_exec_only(from.read_exec_only);
  to.set_limit_in_pages(from.limit_in_pages);
  to.set_seg_not_present(from.seg_not_present);
  to.set_usable(from.useable);
}

bool is_empty(const pb::user_desc_t& from) {
  return from.base_addr() == 0 && from.limit() == 0 && from.seg_not_present() && from.read_exec_only() &&
         !from.seg_32bit() && !from.contents_h() && !from.contents_l() && !from.usable();
}

// The kernel itself refuses what no TLS segment may be, code above all (tls_desc_okay, arch/x86/kernel/tls.c).
user_desc segment_of(const pb::user_desc_t& from) {
  user_desc to{};
  to.entry_number = from.entry_number();
  to.base_addr = from.base_addr();
  to.limit = from.limit();
  to.seg_32bit = from.seg_32bit();
  to.contents = (from.contents_h() ? 2u : 0u) | (from.contents_l() ? 1u : 0u);
  to.read_exec_only = from.read_exec_only();
  to.limit_in_pages = from.limit_in_pages();
  to.seg_not_present = from.seg_not_present();
  to.useable = from.usable();
  return to;
}

// System calls of 32-bit code (i386 numbers), and its struct robust_list_head.
constexpr long kSetRobustList32 = 311, kGetRobustList32 = 312;

parasite::OpRef set(parasite::Program& program, std::string label, int operation, std::uint64_t value) {
  return program.call(std::move(label), SYS_prctl, {operation, value, 0, 0, 0});
}

}  // namespace

ProcessSettingsAsked ask_process_settings(parasite::Program& program) {
  ProcessSettingsAsked asked;
  asked.dumpable = program.call("ask for dumpable", SYS_prctl, {PR_GET_DUMPABLE, 0, 0, 0, 0});
  asked.thp_disabled = program.call("ask for huge pages", SYS_prctl, {PR_GET_THP_DISABLE, 0, 0, 0, 0});
  // Where there is a table it "reads" as much as it was asked for.
  asked.own_segments = program.call("ask for segments of its own", SYS_modify_ldt, {0, program.zeros(8), 8}, parasite::anything());
  asked.child_subreaper = program.zeros(sizeof(int));
  program.call("ask for child subreaper", SYS_prctl, {PR_GET_CHILD_SUBREAPER, asked.child_subreaper, 0, 0, 0});
  if (sys::membarrier(kGetRegistrations)) {
    asked.registrations = program.call("ask for memory barriers", SYS_membarrier, {kGetRegistrations, 0, 0});
    // Told also of who registered for one of the other two only, which does not allow it.
    asked.barriers[0] = program.call("try a memory barrier", SYS_membarrier, {kBarriers[0], 0, 0}, parasite::anything());
  } else {
    for (std::size_t i = 0; i < std::size(kBarriers); ++i)
      asked.barriers[i] = program.call("try a memory barrier", SYS_membarrier, {kBarriers[i], 0, 0},
                                       parasite::anything());
  }
  return asked;
}

bool has_own_segments(const parasite::Placed& placed, const ProcessSettingsAsked& asked) {
  return static_cast<std::int32_t>(placed.result(asked.own_segments)) > 0;  // of modify_ldt() only 32 bits count
}

void save_process_settings(const parasite::Placed& placed, const ProcessSettingsAsked& asked,
                           pb::task_core_entry& to) {
  to.set_child_subreaper(placed.value<int>(asked.child_subreaper) != 0);
  std::uint32_t registered = 0;
  if (asked.registrations) {
    registered = static_cast<std::uint32_t>(placed.result(*asked.registrations));
    if (placed.result(*asked.barriers[0]) == -EPERM) registered &= ~(static_cast<std::uint32_t>(kBarriers[0]) << 1);
  } else {
    // Each REGISTER command is the bit above the command it allows.
    for (std::size_t i = 0; i < std::size(kBarriers); ++i)
      if (asked.barriers[i] && placed.result(*asked.barriers[i]) == 0)
        registered |= static_cast<std::uint32_t>(kBarriers[i]) << 1;
  }
  if (registered != 0) to.set_membarrier_registration_mask(registered);
}

ThreadSettingsAsked ask_thread_settings(parasite::Program& program) {
  ThreadSettingsAsked asked;
  asked.clear_child_tid = program.zeros(sizeof(std::uint64_t));
  program.call("ask for clear_child_tid", SYS_prctl, {PR_GET_TID_ADDRESS, asked.clear_child_tid, 0, 0, 0});
  asked.parent_death_signal = program.zeros(sizeof(int));
  program.call("ask for the parent death signal", SYS_prctl, {PR_GET_PDEATHSIG, asked.parent_death_signal, 0, 0, 0});
  return asked;
}

void save_thread_settings(const parasite::Placed& placed, const ThreadSettingsAsked& asked, pb::core_entry& to) {
  to.mutable_thread_info()->set_clear_tid_addr(placed.value<std::uint64_t>(asked.clear_child_tid));
  if (const int signal = placed.value<int>(asked.parent_death_signal); signal != 0)
    to.mutable_thread_core()->set_pdeath_sig(static_cast<std::uint32_t>(signal));
}

Result<> save_segments(pid_t tid, pb::thread_info_x86& to) {
  for (unsigned index = kFirstTlsSlot; index < kFirstTlsSlot + kTlsSlots; ++index) {
    user_desc empty{};
    empty.entry_number = index, empty.read_exec_only = 1, empty.seg_not_present = 1;
    const Result<user_desc> segment = sys::ptrace::get_thread_area(tid, index);
    if (!segment && !segment.error().is_kernel(EIO)) return fail(segment.error());
    save_segment(segment ? *segment : empty, *to.add_tls());
  }
  return {};
}

parasite::DataRef ask_robust_list32(parasite::Program& program) {
  const parasite::DataRef answer = program.zeros(8);
  program.call32("ask for the robust futex list", kGetRobustList32, {0, answer, answer + 4});
  return answer;
}

void save_robust_list32(const parasite::Placed& placed, parasite::DataRef asked, pb::thread_core_entry& to) {
  to.set_futex_rla(placed.value<std::uint32_t>(asked));
  to.set_futex_rla_len(placed.value<std::uint32_t>(asked + 4));
}

std::uint32_t personality_of(std::uint32_t stored) {
  // No personality has any of these bits (include/uapi/linux/personality.h), the misread ones all do.
  constexpr std::uint32_t kNeverUsed = 0x1ff00;
  if (!(stored & kNeverUsed)) return stored;
  const std::string digits = format("{}", stored);
  return parse_number<std::uint32_t>(digits, 16).value_or(stored);
}

void append_process_settings(parasite::Program& program, const pb::task_core_entry& from, bool thp_disabled) {
  set(program, "child subreaper", PR_SET_CHILD_SUBREAPER, from.child_subreaper());
  if (thp_disabled) set(program, "no huge pages", PR_SET_THP_DISABLE, 1);
  for (unsigned command = 0; command < 32; ++command)
    if (from.membarrier_registration_mask() & (1u << command))
      program.call(format("memory barrier registration {:#x}", 1u << command), SYS_membarrier,
                   {1u << command, 0, 0});
}

Result<> append_thread_settings(parasite::Program& program, const pb::task_core_entry& process,
                                const pb::core_entry& from) {
  program.call("clear_child_tid", SYS_set_tid_address, {from.thread_info().clear_tid_addr()});
  const pb::thread_core_entry& thread = from.thread_core();
  // The kernel knows one length only, of each kind.
  if (thread.futex_rla_len() != 0) {
    const std::string label = "robust futex list";
    if (from.thread_info().gpregs().mode() == pb::COMPAT)
      program.call32(label, kSetRobustList32, {thread.futex_rla(), thread.futex_rla_len()});
    else
      program.call(label, SYS_set_robust_list, {thread.futex_rla(), thread.futex_rla_len()});
  }
  program.call("personality", SYS_personality, {personality_of(process.personality())});
  const std::string& name = thread.has_comm() ? thread.comm() : process.comm();
  program.call("name", SYS_prctl, {PR_SET_NAME, program.text(name), 0, 0, 0});
  return {};
}

Result<> restore_segments(pid_t tid, const pb::thread_info_x86& from) {
  for (const pb::user_desc_t& segment : from.tls())
    if (!is_empty(segment))
      TRY_OR(sys::ptrace::set_thread_area(tid, segment_of(segment)),
             std::move(e).object(format("TLS segment {}", segment.entry_number())));
  return {};
}

void append_late_settings(parasite::Program& program, const pb::mm_entry* mm, std::uint32_t death_signal) {
  // 2 ("by the administrator's leave") comes from a set-uid exec and cannot be set: none at all is the safe way.
  if (mm != nullptr && mm->has_dumpable()) set(program, "dumpable", PR_SET_DUMPABLE, mm->dumpable() == 1 ? 1 : 0);
  set(program, "parent death signal", PR_SET_PDEATHSIG, death_signal);
}

}  // namespace dormouse::engine
