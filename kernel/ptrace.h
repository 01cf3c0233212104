// ptrace(2), one function per request. All act on a thread by its id in the caller's pid namespace.
// ESRCH (the thread is gone, or not stopped) is a kernel error here; callers know which one it means.
#pragma once

#include <asm/ldt.h>
#include <linux/filter.h>
#include <signal.h>
#include <sys/types.h>
#include <sys/user.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "kernel/abi.h"

namespace dormouse::sys::ptrace {

// `options`: PTRACE_O_*. The thread runs on; a stop has to be asked for.
[[nodiscard]] Result<> seize(pid_t tid, unsigned long options);
[[nodiscard]] Result<> interrupt(pid_t tid);
// A thread in a group stop stays stopped, but reports SIGCONT.
[[nodiscard]] Result<> listen(pid_t tid);
// `signal` is delivered on the way; 0: none.
[[nodiscard]] Result<> cont(pid_t tid, int signal = 0);
[[nodiscard]] Result<> syscall(pid_t tid, int signal = 0);
[[nodiscard]] Result<> singlestep(pid_t tid, int signal = 0);
[[nodiscard]] Result<> detach(pid_t tid, int signal = 0);
[[nodiscard]] Result<> setoptions(pid_t tid, unsigned long options);

// `set`: NT_PRSTATUS, NT_PRFPREG, NT_X86_XSTATE, … The answer is the number of bytes the kernel filled.
Result<std::size_t> getregset(pid_t tid, int set, std::span<std::byte> to);
[[nodiscard]] Result<> setregset(pid_t tid, int set, std::span<const std::byte> from);

// The general registers in the 64-bit form, also those of a thread that runs 32-bit code: PTRACE_GETREGS goes by who
// asks, NT_PRSTATUS by the thread's code segment (arch/x86/kernel/ptrace.c). All are set in one step.
Result<user_regs_struct> getregs(pid_t tid);
[[nodiscard]] Result<> setregs(pid_t tid, const user_regs_struct& registers);

Result<siginfo_t> getsiginfo(pid_t tid);
[[nodiscard]] Result<> setsiginfo(pid_t tid, const siginfo_t& info);
// All queued signals in order: of the thread, or of the whole process (`shared`).
Result<std::vector<siginfo_t>> peeksiginfo(pid_t tid, bool shared);
// The kernel's 64-bit mask: bit n-1 is signal n.
Result<std::uint64_t> getsigmask(pid_t tid);
[[nodiscard]] Result<> setsigmask(pid_t tid, std::uint64_t mask);
Result<unsigned long> geteventmsg(pid_t tid);

// Linux 5.13. pointer 0: the thread has not registered rseq.
Result<abi::RseqConfiguration> get_rseq_configuration(pid_t tid);
// Linux 6.4; EIO before that.
Result<abi::CallDispatch> get_call_dispatch(pid_t tid);
// The nth filter, oldest first; ENOENT after the last. Needs CAP_SYS_ADMIN.
Result<std::vector<sock_filter>> seccomp_get_filter(pid_t tid, unsigned long nth);
// The nth filter's flags (SECCOMP_FILTER_FLAG_LOG), Linux 4.16.
Result<std::uint64_t> seccomp_get_metadata(pid_t tid, std::uint64_t nth);

// A TLS segment by its GDT index (12 to 14 on 64-bit kernels), struct user_desc. EIO: the kernel knows no 32-bit
// code.
Result<user_desc> get_thread_area(pid_t tid, unsigned index);
[[nodiscard]] Result<> set_thread_area(pid_t tid, const user_desc& segment);

// One word of memory or user area; peeking is by value, unlike the raw call.
[[nodiscard]] Result<> pokeuser(pid_t tid, std::size_t offset, unsigned long value);
Result<unsigned long> peekuser(pid_t tid, std::size_t offset);

}  // namespace dormouse::sys::ptrace
