// The code that the kernel lends to every process, with its data pages: this kernel's, and what becomes of an
// image's.
//
// An image's vdso that is this kernel's is mapped again where it was, piece by piece if the task had moved or
// unmapped parts. Of another kernel it stays where it is as ordinary memory, since tasks hold addresses of its
// functions (a proxy): each of them jumps to its namesake in this kernel's vdso, which is mapped somewhere
// free. A later checkpoint sees ordinary memory and a vdso; nothing has to be recognised.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/restore_context.h"
#include "parasite/host/program.h"

namespace dormouse::engine {

struct AddressRange {
  std::uint64_t start = 0, end = 0;
  friend bool operator==(const AddressRange&, const AddressRange&) = default;
};

// As the kernel maps it: data pages, then code, without gaps.
struct Vdso {
  bool is_32 = false;  // for 32-bit code
  struct Piece {
    std::uint64_t offset = 0, bytes = 0;
    bool is_code = false;
  };
  std::vector<Piece> pieces;
  std::vector<std::byte> code;
  std::uint64_t bytes() const { return pieces.back().offset + pieces.back().bytes; }
};
// Of this kernel, from the engine's own address space.
Result<Vdso> own_vdso();
// That for 32-bit code, from a process that is made to have it mapped (ARCH_MAP_VDSO_32, Linux 4.8).
Result<Vdso> own_vdso32();

// What is to be done for one task.
struct VdsoPlan {
  struct Move {
    std::uint64_t from = 0, to = 0, bytes = 0;
  };
  struct Store {  // 8 bytes, aligned
    std::uint64_t at = 0, value = 0;
  };
  bool is_32 = false;
  std::uint64_t map_at = 0, map_bytes = 0;  // where the kernel is asked to map its own; 0: nowhere
  std::vector<Move> moves;                  // of pieces of it
  std::vector<AddressRange> unmaps;         // other pieces of it
  bool proxied = false;         // the image's vdso and data pages are restored as ordinary memory
  std::vector<Store> patches;   // into the image's vdso
};

// Pure. `code`: the saved bytes of the image's vdso, empty if there are none. `taken`: ranges, besides the
// task's own mappings, where nothing may be put. kUnsupported: the saved vdso cannot be made to work here.
Result<VdsoPlan> plan_vdso(const ImageTask& task, std::span<const std::byte> code, const Vdso& own,
                           std::span<const AddressRange> taken);
// The same, for a task of an image whose pages are read.
Result<VdsoPlan> plan_vdso(const RestoreContext& context, const ImageTask& task, const Vdso& own,
                           std::span<const AddressRange> taken);

// When the task's own mappings are there.
void append_vdso_map(parasite::Program& program, const VdsoPlan& plan);
// When they are filled, and still writable.
void append_vdso_patches(parasite::Program& program, const VdsoPlan& plan);

}  // namespace dormouse::engine
