#include "parasite/host/syscall_names.h"

#include <seccomp.h>

#include <cstdlib>
#include <memory>

#include "base/format.h"

namespace dormouse::parasite {

std::string syscall_name(long number) {
  const std::unique_ptr<char, decltype(&std::free)> name(
      ::seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, static_cast<int>(number)), &std::free);
  return name ? std::string(name.get()) : format("syscall_{}", number);
}

}  // namespace dormouse::parasite
