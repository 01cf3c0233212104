// inventory.img: what kind of images these are. And what dumps and pre-dumps ask of each other.
#pragma once

#include "engine/dump_context.h"
#include "engine/memory/page_tracking.h"
#include "engine/options.h"

namespace dormouse::engine {

// Of a dump (`probed`: uprobes have been in its tasks); of a pre-dump, which has no tasks to describe.
[[nodiscard]] Result<> save_inventory(const DumpContext& context, bool probed);
[[nodiscard]] Result<> save_pre_dump_inventory(const DumpContext& context);

// Whether memory can be tracked if that is asked for.
[[nodiscard]] Result<> check_tracking(const PageTracking& tracking, const CheckpointOptions& options);

}  // namespace dormouse::engine
