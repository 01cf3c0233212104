// The memory that the engine shares with a task (or with all puppets of a restore): the interpreter,
// one slot (cell and stack) per thread, and room for programs.
#pragma once

#include <cstdint>
#include <span>

#include "base/error.h"
#include "kernel/file.h"
#include "parasite/blob/protocol.h"
#include "parasite/host/program.h"

namespace dormouse::parasite {

std::span<const std::byte> interpreter_image();

// A program where it runs. Valid until the area's next rewind().
class Placed {
 public:
  Placed() = default;
  Placed(const Program* program, std::byte* local, std::uint64_t address)
      : program_(program), local_(local), address_(address) {}

  const Program& program() const { return *program_; }
  std::uint64_t address() const { return address_; }
  const blob::ProgramHeader& header() const {
    return *reinterpret_cast<const blob::ProgramHeader*>(local_);
  }
  std::int64_t result(OpRef op) const {
    return reinterpret_cast<const blob::Op*>(local_ + sizeof(blob::ProgramHeader))[op.index].result;
  }
  // The program's data as the task left it. Never trust it: the task could write there.
  std::span<std::byte> data(DataRef at, std::size_t bytes) const {
    return {local_ + program_->data_offset() + at.offset, bytes};
  }
  template <class T>
  T value(DataRef at) const {
    T object;
    __builtin_memcpy(&object, local_ + program_->data_offset() + at.offset, sizeof object);
    return object;
  }
  std::uint64_t data_address(DataRef at) const { return address_ + program_->data_offset() + at.offset; }

 private:
  const Program* program_ = nullptr;
  std::byte* local_ = nullptr;
  std::uint64_t address_ = 0;
};

class Area {
 public:
  static constexpr std::size_t kPage = 4096;
  static constexpr std::size_t kSlotBytes = blob::kSlotBytes;  // cell below, stack growing down from the top
  static constexpr std::size_t kDefaultProgramBytes = 1 << 20;
  // Some programs are asked of all threads at once; what is not touched costs address space only.
  static constexpr std::size_t kProgramBytesPerThread = 4096;

  // How often a thread without work looks for some before it sleeps, where so many are held. An idle CPU takes long to
  // wake, a round trip between busy ones does not; but what a crowd looks in vain the CPUs do not work.
  static constexpr std::uint32_t spins_for(std::size_t threads) { return threads > kCrowd ? 0 : 2000; }
  static constexpr std::size_t kCrowd = 16;

  static std::size_t size_for(std::uint32_t threads, std::size_t program_bytes = kDefaultProgramBytes);

  // `memory`: shared memory of size_for(threads) bytes that the task sees at `address`. Maps it here and
  // puts header and interpreter in place.
  static Result<Area> adopt(int memory, std::uint64_t address, std::uint32_t threads, std::size_t size);

  std::uint64_t address() const { return address_; }
  std::uint64_t size() const { return mapping_.size(); }
  std::uint64_t entry() const { return address_ + kPage; }
  blob::AreaHeader& header() { return *reinterpret_cast<blob::AreaHeader*>(mapping_.data()); }

  std::uint32_t slots() const { return slots_; }
  blob::Cell& cell(std::uint32_t slot);
  std::uint64_t cell_address(std::uint32_t slot) const { return address_ + slot_offset(slot); }
  std::uint64_t stack_bottom(std::uint32_t slot) const { return cell_address(slot) + sizeof(blob::Cell); }
  std::uint64_t stack_top(std::uint32_t slot) const { return cell_address(slot) + kSlotBytes; }

  // Copies a program into the area. kConflict with ENOSPC if it does not fit: the caller runs what is
  // there, rewinds and goes on.
  Result<Placed> place(const Program& program);
  std::size_t program_room() const { return mapping_.size() - next_; }
  // Forgets all placed programs but those placed before `keep()`.
  void rewind() { next_ = kept_; }
  // The task has them; here they come back when they are looked at. Of many tasks they are many.
  void let_go_of_pages();
  void keep() { kept_ = next_; }
  void keep_nothing() { kept_ = next_ = slot_offset(slots_); }

 private:
  static constexpr std::size_t slot_offset(std::uint32_t slot) { return blob::kFirstCell + slot * kSlotBytes; }

  sys::Mapping mapping_;
  std::uint64_t address_ = 0;
  std::uint32_t slots_ = 0;
  std::size_t next_ = 0, kept_ = 0;
};

}  // namespace dormouse::parasite
