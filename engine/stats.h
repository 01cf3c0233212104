// stats-dump and stats-restore, in the work directory.
#pragma once

#include "engine/options.h"

namespace dormouse::engine {

[[nodiscard]] Result<> write_dump_stats(const CheckpointOptions& options, const CheckpointReport& report);
[[nodiscard]] Result<> write_restore_stats(const RestoreOptions& options, const RestoreReport& report);

}  // namespace dormouse::engine
