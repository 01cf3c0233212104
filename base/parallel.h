// Independent jobs on all processors: reading /proc and writing images take the engine most of its time where there are
// many tasks. What a tracer alone may do (ptrace) is none of them.
#pragma once

#include <cstddef>
#include <functional>

#include "base/error.h"

namespace dormouse {

// Runs job(0) … job(count - 1), several at a time and in any order, and returns when all have ended. Of several failures
// it is that of the lowest number; then jobs may have been left out. The caller's thread takes part; the others live
// no longer than the call and leave all signals to it. Where no thread can be had, it does everything alone.
// `worth_a_thread`: so many jobs take about as long as a thread costs; some twenty small files of /proc do.
[[nodiscard]] Result<> in_parallel(std::size_t count, const std::function<Result<>(std::size_t)>& job,
                                   std::size_t worth_a_thread = 16);

}  // namespace dormouse
