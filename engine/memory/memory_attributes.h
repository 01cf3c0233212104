// What the reference format has no place for in an address space (dormouse-memory-N): sealed mappings, and whether
// mappings to come will be locked.
#pragma once

#include <cstdint>
#include <span>

#include "base/error.h"
#include "kernel/proc/maps.h"
#include "parasite/host/program.h"

namespace dormouse::pb {
class memory_attributes_entry;
}

namespace dormouse::engine {

// A seal that a task has set on memory of its own (mseal(), Linux 6.10). The kernel seals its own as it likes.
bool is_sealed_by_task(const proc::Vma& vma);
void note_sealed(std::span<const proc::Vma> maps, pb::memory_attributes_entry& to);

// mlockall(MCL_FUTURE) is seen nowhere, but in mappings that came after it: such as the interpreter's area, at
// `address`, of which a page is asked. The result is -EINVAL if it is locked.
parasite::OpRef ask_lock_future(parasite::Program& program, std::uint64_t area_address);
void note_lock_future(const proc::Vma& area, pb::memory_attributes_entry& to);

// Each range is one, and the flags are known.
[[nodiscard]] Result<> check_memory_attributes(const pb::memory_attributes_entry& entry);
// When nothing is mapped, protected or advised any more.
void append_memory_attributes(parasite::Program& program, const pb::memory_attributes_entry& entry);

}  // namespace dormouse::engine
