// stats-dump and stats-restore, in the work directory.
#pragma once

#include <chrono>

#include "engine/options.h"

namespace dormouse::engine {

using Clock = std::chrono::steady_clock;
inline std::chrono::microseconds since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start);
}

[[nodiscard]] Result<> write_dump_stats(const CheckpointOptions& options, const CheckpointReport& report);
[[nodiscard]] Result<> write_restore_stats(const RestoreOptions& options, const RestoreReport& report);

}  // namespace dormouse::engine
