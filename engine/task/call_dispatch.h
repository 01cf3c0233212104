// System call user dispatch (prctl(PR_SET_SYSCALL_USER_DISPATCH), Linux 5.11): a thread that has its own system calls
// handed back to it as SIGSYS. The interpreter's would be, too.
#pragma once

#include <sys/types.h>

#include "base/error.h"

namespace dormouse::engine {

// kUnsupported if it is on for the thread, which is in a ptrace stop.
[[nodiscard]] Result<> refuse_call_dispatch(pid_t tid);

}  // namespace dormouse::engine
