// The code that the kernel lends to every process, and whether the image's is this kernel's.
#pragma once

#include <cstdint>

#include "engine/restore_context.h"

namespace dormouse::engine {

struct Vdso {
  std::uint64_t vvar_bytes = 0, code_bytes = 0;
  std::uint64_t syscall_offset = 0;  // of a `syscall` instruction in the code
  std::vector<std::byte> code;
};
// Of this kernel, from the engine's own address space.
Result<Vdso> own_vdso();
// Tasks hold addresses of vdso functions: where the image's code differs from this kernel's they would
// jump into the middle of something. kUnsupported then, naming the task.
[[nodiscard]] Result<> check_vdso(const RestoreContext& context, const Vdso& own);
// Where the code of a task's image begins; 0: it has none.
std::uint64_t vdso_address(const ImageTask& task);

}  // namespace dormouse::engine
