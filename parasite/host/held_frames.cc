// HeldProcess's way home: the signal frames on which its threads return, and what stood where they are.

#include <signal.h>
#include <sys/syscall.h>

#include "kernel/process.h"
#include "parasite/host/frame32.h"
#include "parasite/host/held_process.h"

namespace dormouse::parasite {

SignalFrame HeldProcess::frame_for(const HeldThread& thread, std::uint64_t stack, bool on_alternate_stack) const {
  if (!is_32_) return build_frame(thread.context_, stack, on_alternate_stack, gadgets_.restorer);
  return thread.strict_ ? build_frame32(thread.context_, stack, gadgets_.old_restorer, gadgets_.pops, FrameKind::kOld)
                        : build_frame32(thread.context_, stack, gadgets_.restorer, gadgets_.pops);
}

// Where the frame's return address is: what a gadget pops stands below it.
std::uint64_t HeldProcess::home_of(const HeldThread& thread) const {
  return thread.frame_.address + gadgets_.pops;
}

Result<> HeldProcess::lay_frame(HeldThread& thread, std::uint64_t stack, bool on_alternate_stack) {
  SignalFrame frame = frame_for(thread, stack, on_alternate_stack);
  std::vector<std::byte> under(frame.bytes.size());
  TRY(sys::process_vm_read(leader().tid(), frame.address, under));
  TRY(sys::process_vm_write(leader().tid(), frame.address, frame.bytes));
  thread.frame_ = std::move(frame);
  thread.under_frame_ = std::move(under);
  return {};
}

SignalFrame HeldProcess::undo_frame(std::uint64_t wanted, std::size_t size) const {
  const HeldThread& first = *threads_.front();
  const std::uint64_t home = first.frame_.address;
  if (is_32_)
    return build_call_frame32(first.context_.regs, home, gadgets_.restorer, gadgets_.pops, gadgets_.syscall, kMunmap32,
                              wanted, size, home);
  return build_call_frame(first.context_.regs, home, gadgets_.restorer, gadgets_.syscall, SYS_munmap, wanted, size,
                          home);
}

// A thread with an alternate stack may run on a stack too small for a frame (goroutines): the frame goes
// where a signal's would, and what it covered at first is put back.
Result<> HeldProcess::move_frame(HeldThread& thread) {
  const stack_t& alternate = thread.alternate_stack_;
  const auto base = reinterpret_cast<std::uint64_t>(alternate.ss_sp);
  const std::uint64_t sp = thread.context_.regs.rsp;
  const bool on_it = sp > base && sp - base <= alternate.ss_size;
  if ((alternate.ss_flags & SS_DISABLE) || alternate.ss_size == 0 || on_it) return {};
  const SignalFrame first = std::move(thread.frame_);
  const std::vector<std::byte> covered = std::move(thread.under_frame_);
  if (Result<> laid = lay_frame(thread, base + alternate.ss_size, true); !laid) {
    thread.frame_ = first;
    thread.under_frame_ = covered;
    log_.debug("{}: no frame on the alternate stack: {}", name_, laid.error().message());
    return {};
  }
  area_->cell(thread.slot_).frame = home_of(thread);
  return sys::process_vm_write(leader().tid(), first.address, covered);
}

}  // namespace dormouse::parasite
