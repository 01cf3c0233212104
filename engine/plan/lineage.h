// Who was born below whom, as far as parents and sessions tell it. Pure.
//
// Who does not lead its session was born into it, below its leader. A parent has given birth to its child or adopted it,
// and only ancestors adopt. So each task has its parent and its session's leader among its ancestors by birth,
// wherever they have moved since (adopters come and go, and who adopts once may not do so later). Whoever was born
// between a task and its leader was in that session at the time: it still is, or leads its own by now.
//
// The other way round, any tree of births that is so can be brought to the same end (engine/plan/family.h). It is
// found by bringing two ancestors of one task into one line wherever they are in two. Which of them was born first is
// sometimes said by sessions; else the lower number, which is right unless numbers began anew in between. Where that leads
// nowhere, other orders are tried.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/error.h"
#include "engine/plan/image.h"

namespace dormouse::engine {

struct Lineage {
  std::vector<std::uint32_t> gone;   // numbers of leaders that are gone
  // By task, and behind them by leader that is gone: the nearest ancestor that is known of. A task if of one that is gone;
  // the root's is itself.
  std::vector<std::size_t> born_of;
  // By task: the session that it is born into; none: any will do. 0: one from outside, if the root leads its own.
  std::vector<std::optional<std::uint32_t>> born_into;
};

// `parents`: indices, by task. The root's is not looked at.
Result<Lineage> trace_lineage(const std::vector<ImageTask>& tasks, std::span<const std::size_t> parents);

}  // namespace dormouse::engine
