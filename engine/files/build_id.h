// The build id of an ELF program or library: the linker's fingerprint, in note NT_GNU_BUILD_ID.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace dormouse::engine {

// In words of 32 bits, little-endian, the last padded with zeros, as images hold it. Empty if the file
// is no ELF file, has no build id, or cannot be read: it is then recognised by its size alone.
// `fd` may be O_PATH or write-only.
std::vector<std::uint32_t> build_id_of(int fd, std::uint64_t size_bytes);

// The same of a file whose first `bytes` process `proc` (its directory in /proc) has at `address`; nothing is opened but its
// memory. Nothing: these bytes do not tell.
std::optional<std::vector<std::uint32_t>> build_id_in_memory(int proc, std::uint64_t address, std::uint64_t bytes);

}  // namespace dormouse::engine
