// Whether this CPU can take over what another one did. Pure.
#pragma once

#include "base/error.h"
#include "engine/options.h"

namespace dormouse::pb {
class cpuinfo_entry;
class cpuinfo_x86_entry;
}  // namespace dormouse::pb

namespace dormouse::engine {

// kUnsupported: `here` lacks what `image` has, named; kCorruptImage: the record makes no sense.
[[nodiscard]] Result<> check_cpu(const pb::cpuinfo_entry& image, const pb::cpuinfo_x86_entry& here,
                                 const CpuChecks& checks);

}  // namespace dormouse::engine
