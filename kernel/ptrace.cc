#include "kernel/ptrace.h"

#include <asm/ptrace-abi.h>
#include <linux/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kernel/call.h"

namespace dormouse::sys::ptrace {

namespace {

// The raw call: <sys/ptrace.h> and <linux/ptrace.h> cannot be included together, and the C library's
// wrapper changes the meaning of the peeking requests.
long raw(long request, pid_t tid, unsigned long address, unsigned long data) {
  return ::syscall(SYS_ptrace, request, tid, address, data);
}
unsigned long word(const void* pointer) { return reinterpret_cast<unsigned long>(pointer); }

Result<> act(const char* name, long request, pid_t tid, unsigned long address, unsigned long data) {
  if (raw(request, tid, address, data) == -1) [[unlikely]] return failed(name);
  return {};
}

}  // namespace

Result<> seize(pid_t tid, unsigned long options) {
  return act("ptrace SEIZE", PTRACE_SEIZE, tid, 0, options);
}
Result<> interrupt(pid_t tid) { return act("ptrace INTERRUPT", PTRACE_INTERRUPT, tid, 0, 0); }
Result<> listen(pid_t tid) { return act("ptrace LISTEN", PTRACE_LISTEN, tid, 0, 0); }
Result<> cont(pid_t tid, int signal) {
  return act("ptrace CONT", PTRACE_CONT, tid, 0, static_cast<unsigned long>(signal));
}
Result<> syscall(pid_t tid, int signal) {
  return act("ptrace SYSCALL", PTRACE_SYSCALL, tid, 0, static_cast<unsigned long>(signal));
}
Result<> singlestep(pid_t tid, int signal) {
  return act("ptrace SINGLESTEP", PTRACE_SINGLESTEP, tid, 0, static_cast<unsigned long>(signal));
}
Result<> detach(pid_t tid, int signal) {
  return act("ptrace DETACH", PTRACE_DETACH, tid, 0, static_cast<unsigned long>(signal));
}
Result<> setoptions(pid_t tid, unsigned long options) {
  return act("ptrace SETOPTIONS", PTRACE_SETOPTIONS, tid, 0, options);
}

Result<std::size_t> getregset(pid_t tid, int set, std::span<std::byte> to) {
  ::iovec area{to.data(), to.size()};
  TRY(act("ptrace GETREGSET", PTRACE_GETREGSET, tid, static_cast<unsigned long>(set), word(&area)));
  return area.iov_len;
}
Result<> setregset(pid_t tid, int set, std::span<const std::byte> from) {
  const ::iovec area{const_cast<std::byte*>(from.data()), from.size()};
  return act("ptrace SETREGSET", PTRACE_SETREGSET, tid, static_cast<unsigned long>(set), word(&area));
}

Result<user_regs_struct> getregs(pid_t tid) {
  user_regs_struct registers{};
  TRY(act("ptrace GETREGS", PTRACE_GETREGS, tid, 0, word(&registers)));
  return registers;
}
Result<> setregs(pid_t tid, const user_regs_struct& registers) {
  return act("ptrace SETREGS", PTRACE_SETREGS, tid, 0, word(&registers));
}

Result<siginfo_t> getsiginfo(pid_t tid) {
  siginfo_t info{};
  TRY(act("ptrace GETSIGINFO", PTRACE_GETSIGINFO, tid, 0, word(&info)));
  return info;
}
Result<> setsiginfo(pid_t tid, const siginfo_t& info) {
  return act("ptrace SETSIGINFO", PTRACE_SETSIGINFO, tid, 0, word(&info));
}

Result<std::vector<siginfo_t>> peeksiginfo(pid_t tid, bool shared) {
  std::vector<siginfo_t> queue;
  for (;;) {
    siginfo_t batch[32];
    const abi::PeekSiginfoArgs args{queue.size(), shared ? abi::kPeekSiginfoShared : 0, 32};
    const long got = raw(PTRACE_PEEKSIGINFO, tid, word(&args), word(batch));
    if (got == -1) return failed("ptrace PEEKSIGINFO");
    if (got == 0) return queue;
    queue.insert(queue.end(), batch, batch + got);
  }
}

Result<std::uint64_t> getsigmask(pid_t tid) {
  std::uint64_t mask = 0;
  TRY(act("ptrace GETSIGMASK", PTRACE_GETSIGMASK, tid, sizeof mask, word(&mask)));
  return mask;
}
Result<> setsigmask(pid_t tid, std::uint64_t mask) {
  return act("ptrace SETSIGMASK", PTRACE_SETSIGMASK, tid, sizeof mask, word(&mask));
}
Result<unsigned long> geteventmsg(pid_t tid) {
  unsigned long message = 0;
  TRY(act("ptrace GETEVENTMSG", PTRACE_GETEVENTMSG, tid, 0, word(&message)));
  return message;
}

Result<abi::RseqConfiguration> get_rseq_configuration(pid_t tid) {
  abi::RseqConfiguration configuration;
  TRY(act("ptrace GET_RSEQ_CONFIGURATION", PTRACE_GET_RSEQ_CONFIGURATION, tid, sizeof configuration,
          word(&configuration)));
  return configuration;
}

Result<abi::CallDispatch> get_call_dispatch(pid_t tid) {
  constexpr long kGetCallDispatch = 0x4211;  // PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
  abi::CallDispatch dispatch;
  TRY(act("ptrace GET_SYSCALL_USER_DISPATCH_CONFIG", kGetCallDispatch, tid, sizeof dispatch, word(&dispatch)));
  return dispatch;
}

Result<std::vector<sock_filter>> seccomp_get_filter(pid_t tid, unsigned long nth) {
  // Asked with no room, the kernel answers with the number of instructions.
  const long count = raw(PTRACE_SECCOMP_GET_FILTER, tid, nth, 0);
  if (count == -1) return failed("ptrace SECCOMP_GET_FILTER");
  std::vector<sock_filter> filter(static_cast<std::size_t>(count));
  TRY(act("ptrace SECCOMP_GET_FILTER", PTRACE_SECCOMP_GET_FILTER, tid, nth, word(filter.data())));
  return filter;
}
Result<std::uint64_t> seccomp_get_metadata(pid_t tid, std::uint64_t nth) {
  ::seccomp_metadata metadata{};
  metadata.filter_off = nth;
  TRY(act("ptrace SECCOMP_GET_METADATA", PTRACE_SECCOMP_GET_METADATA, tid, sizeof metadata,
          word(&metadata)));
  return metadata.flags;
}

Result<user_desc> get_thread_area(pid_t tid, unsigned index) {
  user_desc segment{};
  TRY(act("ptrace GET_THREAD_AREA", PTRACE_GET_THREAD_AREA, tid, index, word(&segment)));
  return segment;
}

Result<> set_thread_area(pid_t tid, const user_desc& segment) {
  return act("ptrace SET_THREAD_AREA", PTRACE_SET_THREAD_AREA, tid, segment.entry_number, word(&segment));
}

Result<> pokeuser(pid_t tid, std::size_t offset, unsigned long value) {
  return act("ptrace POKEUSER", PTRACE_POKEUSR, tid, offset, value);
}
Result<unsigned long> peekuser(pid_t tid, std::size_t offset) {
  unsigned long value = 0;
  TRY(act("ptrace PEEKUSER", PTRACE_PEEKUSR, tid, offset, word(&value)));
  return value;
}

}  // namespace dormouse::sys::ptrace
