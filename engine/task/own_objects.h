// What the threads of a process share as a rule, while one may have its own since it called unshare() or setns():
// directories, which are kept (dormouse-task), descriptors and namespaces, which are refused.
#pragma once

#include <sys/types.h>

#include "base/error.h"
#include "engine/dump_context.h"
#include "kernel/proc/directory.h"
#include "kernel/proc/status.h"

namespace dormouse::engine {

// Whether the thread, which is not the one by which its process is looked at, has a working directory, root directory and
// umask of its own. `dir`: its directory in /proc. kUnsupported: it has descriptors or namespaces of its own.
Result<bool> has_own_directories(const DumpContext& context, const Task& task, const Thread& thread,
                                 const proc::ProcDir& dir, const proc::Status& status);

}  // namespace dormouse::engine
