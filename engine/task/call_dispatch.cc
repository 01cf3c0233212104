#include "engine/task/call_dispatch.h"

#include <cerrno>

#include "kernel/ptrace.h"

namespace dormouse::engine {

Result<> refuse_call_dispatch(pid_t tid) {
  const Result<abi::CallDispatch> found = sys::ptrace::get_call_dispatch(tid);
  if (!found && found.error().is_kernel(EIO)) return {};  // before Linux 6.4
  const abi::CallDispatch dispatch = TRY(found);
  if (dispatch.mode == 0) return {};
  return fail(Error::unsupported("they are handed back to it by the kernel (PR_SET_SYSCALL_USER_DISPATCH)")
                  .remedy("switch that off before the checkpoint"));
}

}  // namespace dormouse::engine
