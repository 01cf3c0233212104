// A program: the list of operations that a held task or a puppet is to run, built in ordinary C++.
//
// Programs are values. They know nothing of addresses in an area until they are placed there, so they
// can be built, printed and compared without any process.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "parasite/blob/protocol.h"

namespace dormouse::parasite {

using blob::OpCode;

// The result of an earlier operation of the same program.
struct OpRef {
  std::uint32_t index = 0;
};
// A place in the program's own data.
struct DataRef {
  std::uint32_t offset = 0;
  DataRef operator+(std::uint32_t bytes) const { return {offset + bytes}; }
};
// The 32-bit number stored at a place in the program's data when the operation runs.
struct Load {
  DataRef from;
};

// One argument of an operation.
class Value {
 public:
  enum class Kind : std::uint8_t { kImmediate, kResult, kData, kLoad };
  template <class T>
    requires(std::is_integral_v<T> || std::is_enum_v<T>)
  Value(T number)  // NOLINT(google-explicit-constructor): reads like a call
      : bits_(static_cast<std::uint64_t>(number)) {}
  Value(OpRef ref) : kind_(Kind::kResult), bits_(ref.index) {}        // NOLINT(google-explicit-constructor)
  Value(DataRef ref) : kind_(Kind::kData), bits_(ref.offset) {}       // NOLINT(google-explicit-constructor)
  Value(Load load) : kind_(Kind::kLoad), bits_(load.from.offset) {}   // NOLINT(google-explicit-constructor)

  Kind kind() const { return kind_; }
  std::uint64_t bits() const { return bits_; }

 private:
  Kind kind_ = Kind::kImmediate;
  std::uint64_t bits_ = 0;
};

struct Expectation {
  blob::Expect what = blob::Expect::kOk;
  std::int64_t value = 0;
};
inline Expectation ok() { return {}; }
inline Expectation exactly(std::int64_t value) { return {blob::Expect::kExact, value}; }
inline Expectation ok_or(int err) { return {blob::Expect::kErrno, err}; }
inline Expectation anything() { return {blob::Expect::kAnything, 0}; }

class Program {
 public:
  // `label` names the operation in errors: "map 7f00…-7f01…".
  OpRef call(std::string label, long number, std::initializer_list<Value> args, Expectation expect = ok());
  // A call of 32-bit code, of at most five arguments; data only where the area is below 4 GiB.
  OpRef call32(std::string label, long number, std::initializer_list<Value> args, Expectation expect = ok());
  // The non-system-call operations of blob::OpCode.
  OpRef perform(blob::OpCode code, std::string label, std::initializer_list<Value> args,
                Expectation expect = ok());

  // Data of the program: copied in when it is placed, readable back after it ran. 8-byte aligned.
  DataRef data(std::span<const std::byte> bytes);
  DataRef zeros(std::size_t bytes);
  DataRef text(std::string_view text);  // with its terminating zero
  template <class T>
    requires std::is_trivially_copyable_v<T>
  DataRef value(const T& object) {
    return data(std::as_bytes(std::span(&object, 1)));
  }
  // Stores the address of `target` (once placed) into the 8 bytes at `at`: pointers inside structures.
  void point(DataRef at, DataRef target) { pointers_.push_back({at.offset, target.offset}); }

  bool empty() const { return ops_.empty(); }
  std::uint32_t op_count() const { return static_cast<std::uint32_t>(ops_.size()); }
  const std::string& label(std::uint32_t op) const { return labels_[op]; }
  // What the operation is: a system call's name, or that of another operation.
  std::string name(std::uint32_t op) const;

  std::size_t size_bytes() const;
  // Writes header, operations and data to `to` (size_bytes() long), which the task sees at `address`.
  void place(std::span<std::byte> to, std::uint64_t address) const;
  // Where the data begins within a placed program.
  std::size_t data_offset() const;

  // One line per operation, like strace; data addresses print as data+0x10.
  std::string print() const;

 private:
  struct Pointer {
    std::uint32_t at, target;
  };
  std::vector<blob::Op> ops_;
  std::vector<std::uint8_t> data_args_;  // bit k of [i]: argument k of operation i is a data reference
  std::vector<std::string> labels_;
  std::vector<std::byte> data_;
  std::vector<Pointer> pointers_;
};

}  // namespace dormouse::parasite
