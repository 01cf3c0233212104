// A dump and a restore, from settings to outcome, the same for the command line and for RPC.
#pragma once

#include <vector>

#include "shim/engine_api.h"
#include "shim/workplace.h"

namespace dormouse::shim {

// `client` hears of each stage before the action scripts do; it may be empty. What fails is
// reported (log, report file) here, and nowhere else.
CheckpointResult run_checkpoint(const EngineApi& engine, const Settings& settings, Workplace& place,
                                engine::Notify client);
// Writes cpuinfo.img, or compares it with this CPU.
[[nodiscard]] Result<> run_cpuinfo(const EngineApi& engine, const Settings& settings, Workplace& place, bool dump);
// Tells no stages to anybody: there are none.
CheckpointResult run_pre_dump(const EngineApi& engine, const Settings& settings, Workplace& place);
RestoreResult run_restore(const EngineApi& engine, const Settings& settings, Workplace& place,
                          engine::Notify client);

// The text of --display-stats.
std::string statistics_text(const engine::CheckpointReport& report);
std::string statistics_text(const engine::RestoreReport& report);

}  // namespace dormouse::shim
