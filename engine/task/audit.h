// The login id that audit records name, whoever a task has become since.
#pragma once

#include <cstdint>

#include "parasite/host/program.h"

namespace dormouse::engine {

inline constexpr std::uint32_t kNoLoginUid = ~std::uint32_t{0};  // nobody has logged in, or a kernel without audit

// That of the engine, which puppets inherit.
std::uint32_t own_login_uid();

// Only the thread itself may write its id (kernel/audit.c), and only with CAP_AUDIT_CONTROL where there is one
// already. What the node does not allow is left as it is: nothing but audit records depends on it.
void append_login_uid(parasite::Program& program, std::uint32_t wanted, std::uint32_t own);

}  // namespace dormouse::engine
