// Protection keys (pkeys(7)). Which a process has allocated the kernel does not tell, and what they allow is in a register of
// each thread. A process that has any cannot be saved yet; mappings with one are refused as such (vma_kind.h).
#pragma once

#include <cstdint>
#include <optional>

#include "base/error.h"
#include "parasite/host/area.h"
#include "parasite/host/program.h"

namespace dormouse::engine {

// Whether this processor has keys, and the kernel uses them.
bool processor_has_keys();

// For each key whether it is allocated: by giving it to the page at `hole`, where nothing is mapped. Kernel: it looks at the key
// first (EINVAL), then at the address (ENOMEM). The answer is the first of the operations, one for each key from 1 on.
parasite::OpRef ask_for_keys(parasite::Program& program, std::uint64_t hole);
[[nodiscard]] Result<> refuse_allocated_keys(const parasite::Placed& placed, parasite::OpRef first);

}  // namespace dormouse::engine
