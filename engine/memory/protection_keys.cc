#include "engine/memory/protection_keys.h"

#include <cpuid.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cerrno>
#include <string>

#include "base/format.h"
#include "base/pages.h"

namespace dormouse::engine {
namespace {
constexpr std::uint32_t kKeys = 16;
}  // namespace

bool processor_has_keys() {
  constexpr unsigned kFeatures = 7, kOsUsesKeys = 1u << 4;  // CPUID.7.0:ECX.OSPKE
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(kFeatures, 0, &a, &b, &c, &d) != 0 && (c & kOsUsesKeys) != 0;
}

parasite::OpRef ask_for_keys(parasite::Program& program, std::uint64_t hole) {
  const parasite::OpRef first{program.op_count()};
  for (std::uint32_t key = 1; key < kKeys; ++key)
    program.call("ask for a key", SYS_pkey_mprotect, {hole, kPage, PROT_NONE, key}, parasite::anything());
  return first;
}

Result<> refuse_allocated_keys(const parasite::Placed& placed, parasite::OpRef first) {
  std::string keys;
  for (std::uint32_t key = 1; key < kKeys; ++key)
    if (placed.result({first.index + key - 1}) == -ENOMEM) keys += format("{}{}", keys.empty() ? "" : ", ", key);
  if (keys.empty()) return {};
  return fail(Error::unsupported(format("it has allocated {}, which cannot be given again yet", keys))
                  .object("protection keys").remedy("give them back with pkey_free() before the checkpoint"));
}

}  // namespace dormouse::engine
