// The functions that a vdso offers, read from its ELF image.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "base/error.h"

namespace dormouse::engine {

// Offsets by name; several names may be one function. kCorruptImage: it is no vdso, or damaged.
Result<std::map<std::string, std::uint64_t>> vdso_functions(std::span<const std::byte> code);

// Whether two vdsos are the same code. The table of program headers may differ: nobody in user space reads it
// after the start, and the reference engine leaves its marks there.
bool same_vdso(std::span<const std::byte> one, std::span<const std::byte> other);

}  // namespace dormouse::engine
