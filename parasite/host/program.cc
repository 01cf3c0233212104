#include "parasite/host/program.h"

#include <cstring>

#include "base/format.h"
#include "parasite/host/syscall_names.h"

namespace dormouse::parasite {

OpRef Program::call(std::string label, long number, std::initializer_list<Value> args,
                    Expectation expect) {
  const OpRef ref = perform(blob::OpCode::kSyscall, std::move(label), args, expect);
  ops_.back().number = static_cast<std::uint32_t>(number);
  return ref;
}

OpRef Program::call32(std::string label, long number, std::initializer_list<Value> args, Expectation expect) {
  const OpRef ref = perform(blob::OpCode::kSyscall32, std::move(label), args, expect);
  ops_.back().number = static_cast<std::uint32_t>(number);
  return ref;
}

OpRef Program::perform(blob::OpCode code, std::string label, std::initializer_list<Value> args,
                       Expectation expect) {
  blob::Op op{};
  op.code = code;
  op.expect = expect.what;
  op.expected = expect.value;
  op.label = static_cast<std::uint32_t>(labels_.size());
  std::uint8_t data_args = 0;
  std::size_t k = 0;
  for (const Value& arg : args) {
    op.args[k] = arg.bits();
    auto kind = blob::ArgKind::kImmediate;
    if (arg.kind() == Value::Kind::kResult) kind = blob::ArgKind::kResult;
    if (arg.kind() == Value::Kind::kLoad) kind = blob::ArgKind::kLoad;
    if (arg.kind() == Value::Kind::kData || arg.kind() == Value::Kind::kLoad)
      data_args |= static_cast<std::uint8_t>(1u << k);
    op.kinds |= static_cast<std::uint16_t>(static_cast<unsigned>(kind) << (2 * k));
    ++k;
  }
  labels_.push_back(std::move(label));
  ops_.push_back(op);
  data_args_.push_back(data_args);
  return {static_cast<std::uint32_t>(ops_.size() - 1)};
}

DataRef Program::data(std::span<const std::byte> bytes) {
  const DataRef ref = zeros(bytes.size());
  if (!bytes.empty()) std::memcpy(data_.data() + ref.offset, bytes.data(), bytes.size());
  return ref;
}

DataRef Program::zeros(std::size_t bytes) {
  const DataRef ref{static_cast<std::uint32_t>(data_.size())};
  data_.resize(data_.size() + (bytes + 7) / 8 * 8);
  return ref;
}

DataRef Program::text(std::string_view text) {
  const DataRef ref = zeros(text.size() + 1);
  std::memcpy(data_.data() + ref.offset, text.data(), text.size());
  return ref;
}

std::size_t Program::data_offset() const {
  return sizeof(blob::ProgramHeader) + ops_.size() * sizeof(blob::Op);
}

std::size_t Program::size_bytes() const { return data_offset() + data_.size(); }

void Program::place(std::span<std::byte> to, std::uint64_t address) const {
  const blob::ProgramHeader header{op_count(), 0};
  std::memcpy(to.data(), &header, sizeof header);
  const std::uint64_t data_address = address + data_offset();
  std::byte* at = to.data() + sizeof header;
  for (std::size_t i = 0; i < ops_.size(); ++i, at += sizeof(blob::Op)) {
    blob::Op op = ops_[i];
    for (unsigned k = 0; k < 6; ++k)
      if (data_args_[i] & (1u << k)) op.args[k] += data_address;
    std::memcpy(at, &op, sizeof op);
  }
  if (!data_.empty()) std::memcpy(at, data_.data(), data_.size());
  for (const Pointer& pointer : pointers_) {
    const std::uint64_t target = data_address + pointer.target;
    std::memcpy(at + pointer.at, &target, sizeof target);
  }
}

namespace {

std::string_view code_name(blob::OpCode code) {
  switch (code) {
    case blob::OpCode::kSyscall: return "syscall";
    case blob::OpCode::kSpawn: return "spawn";
    case blob::OpCode::kHash: return "hash";
    case blob::OpCode::kCopyChanged: return "copy_changed";
    case blob::OpCode::kStore: return "store";
    case blob::OpCode::kZeroPages: return "nonzero_pages";
    case blob::OpCode::kSyscall32: return "syscall32";
  }
  return "?";
}

// Trailing zero arguments carry nothing for a reader.
unsigned used_args(const blob::Op& op, std::uint8_t data_args) {
  unsigned used = 6;
  while (used > 0 && op.args[used - 1] == 0 && !(data_args & (1u << (used - 1))) &&
         ((op.kinds >> (2 * (used - 1))) & 3) == 0)
    --used;
  return used;
}

std::string print_arg(const blob::Op& op, unsigned k, bool is_data) {
  const auto kind = static_cast<blob::ArgKind>((op.kinds >> (2 * k)) & 3);
  const std::uint64_t bits = op.args[k];
  if (kind == blob::ArgKind::kResult) return format("result#{}", bits);
  if (kind == blob::ArgKind::kLoad) return format("[data+{:#x}]", bits);
  if (is_data) return format("data+{:#x}", bits);
  if (bits < 4096) return format("{}", bits);
  if (const auto number = static_cast<std::int64_t>(bits); number < 0 && number > -4096)
    return format("{}", number);
  return format("{:#x}", bits);
}

std::string print_expectation(const blob::Op& op) {
  switch (op.expect) {
    case blob::Expect::kOk: return "";
    case blob::Expect::kExact: return format(" = {:#x}", op.expected);
    case blob::Expect::kErrno: return format(" or errno {}", op.expected);
    case blob::Expect::kAnything: return " or anything";
  }
  return "";
}

}  // namespace

std::string Program::name(std::uint32_t op) const {
  if (ops_[op].code == blob::OpCode::kSpawn) return "clone3";
  if (ops_[op].code == blob::OpCode::kSyscall32) return syscall_name32(static_cast<long>(ops_[op].number));
  return ops_[op].code == blob::OpCode::kSyscall ? syscall_name(static_cast<long>(ops_[op].number))
                                                 : std::string(code_name(ops_[op].code));
}

std::string Program::print() const {
  std::string text;
  for (std::size_t i = 0; i < ops_.size(); ++i) {
    const blob::Op& op = ops_[i];
    text += format("{}: ", i);
    if (op.code == blob::OpCode::kSyscall) text += syscall_name(static_cast<long>(op.number));
    else if (op.code == blob::OpCode::kSyscall32) text += "32-bit " + syscall_name32(static_cast<long>(op.number));
    else text += code_name(op.code);
    text += '(';
    for (unsigned k = 0; k < used_args(op, data_args_[i]); ++k) {
      if (k > 0) text += ", ";
      text += print_arg(op, k, data_args_[i] & (1u << k));
    }
    text += ')' + print_expectation(op);
    if (!labels_[i].empty()) text += "  ; " + labels_[i];
    text += '\n';
  }
  return text;
}

}  // namespace dormouse::parasite
