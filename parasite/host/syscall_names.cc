#include "parasite/host/syscall_names.h"

#include <seccomp.h>

#include <cstdlib>
#include <memory>

#include "base/format.h"

namespace dormouse::parasite {
namespace {

std::string name_of(std::uint32_t kind, long number) {
  const std::unique_ptr<char, decltype(&std::free)> name(
      ::seccomp_syscall_resolve_num_arch(kind, static_cast<int>(number)), &std::free);
  return name ? std::string(name.get()) : format("syscall_{}", number);
}

}  // namespace

std::string syscall_name(long number) { return name_of(SCMP_ARCH_NATIVE, number); }
std::string syscall_name32(long number) { return name_of(SCMP_ARCH_X86, number); }

}  // namespace dormouse::parasite
