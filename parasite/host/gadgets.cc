#include "parasite/host/gadgets.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "base/format.h"
#include "kernel/file.h"
#include "kernel/process.h"

namespace dormouse::parasite {
namespace {

std::optional<std::size_t> find_bytes(std::span<const std::byte> code, std::string_view pattern) {
  const void* at = ::memmem(code.data(), code.size(), pattern.data(), pattern.size());
  if (!at) return std::nullopt;
  return static_cast<const std::byte*>(at) - code.data();
}

constexpr std::string_view kSyscall("\x0f\x05", 2), kInt80("\xcd\x80", 2);

// xor r32,r32 of any two equal registers other than eax, and nothing else.
std::size_t register_clear_length(std::span<const std::byte> code) {
  const auto byte = [&](std::size_t i) { return std::to_integer<unsigned>(code[i]); };
  std::size_t prefix = 0;
  if (code.size() >= 3 && byte(0) == 0x45) prefix = 1;
  if (code.size() < prefix + 2 || byte(prefix) != 0x31) return 0;
  const unsigned modrm = byte(prefix + 1);
  const unsigned source = (modrm >> 3) & 7, target = modrm & 7;
  const bool touches_result_or_stack = prefix == 0 && (target == 0 || target == 4);
  if ((modrm >> 6) != 3 || source != target || touches_result_or_stack) return 0;
  return prefix + 2;
}

// `pop` of any registers but eax and esp, and `ret`: how many bytes are popped.
std::optional<std::uint32_t> pops_before_ret(std::span<const std::byte> code) {
  for (std::uint32_t i = 0; i < 8 && i < code.size(); ++i) {
    const unsigned byte = std::to_integer<unsigned>(code[i]);
    if (byte == 0xc3) return 4 * i;
    if (byte < 0x59 || byte > 0x5f || byte == 0x5c) return std::nullopt;
  }
  return std::nullopt;
}

bool runs_into_ret(std::span<const std::byte> code) {
  while (!code.empty()) {
    if (std::to_integer<unsigned>(code[0]) == 0xc3) return true;
    const std::size_t clear = register_clear_length(code);
    if (clear == 0) return false;
    code = code.subspan(clear);
  }
  return false;
}

}  // namespace

std::optional<std::size_t> find_syscall(std::span<const std::byte> code) {
  return find_bytes(code, kSyscall);
}

std::optional<std::size_t> find_returning_syscall(std::span<const std::byte> code) {
  std::size_t from = 0;
  while (const auto at = find_syscall(code.subspan(from))) {
    const std::size_t offset = from + *at;
    if (runs_into_ret(code.subspan(offset + 2))) return offset;
    from = offset + 2;
  }
  return std::nullopt;
}

std::optional<std::size_t> find_restorer(std::span<const std::byte> code) {
  constexpr std::string_view kLong("\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05", 9);  // mov $15, %rax
  constexpr std::string_view kShort("\xb8\x0f\x00\x00\x00\x0f\x05", 7);         // mov $15, %eax
  if (const auto at = find_bytes(code, kLong)) return at;
  return find_bytes(code, kShort);
}

std::optional<std::size_t> find_int80(std::span<const std::byte> code) { return find_bytes(code, kInt80); }

std::optional<ReturningCall> find_returning_int80(std::span<const std::byte> code) {
  std::size_t from = 0;
  while (const auto at = find_int80(code.subspan(from))) {
    const std::size_t offset = from + *at;
    if (const auto pops = pops_before_ret(code.subspan(offset + 2))) return ReturningCall{offset, *pops};
    from = offset + 2;
  }
  return std::nullopt;
}

std::optional<std::size_t> find_restorer32(std::span<const std::byte> code) {
  return find_bytes(code, std::string_view("\xb8\xad\x00\x00\x00\xcd\x80", 7));  // mov $173, %eax
}

std::optional<std::size_t> find_old_restorer32(std::span<const std::byte> code) {
  return find_bytes(code, std::string_view("\x58\xb8\x77\x00\x00\x00\xcd\x80", 8));
}

namespace {

std::optional<ReturningCall> returning_call(std::span<const std::byte> code, bool is_32) {
  if (is_32) return find_returning_int80(code);
  const auto at = find_returning_syscall(code);
  return at ? std::optional(ReturningCall{*at, 0}) : std::nullopt;
}

}  // namespace

Result<Gadgets> GadgetFinder::find(pid_t pid, int proc_dir, std::span<const proc::Vma> maps, bool is_32) {
  Gadgets gadgets;
  const auto take_call = [&](std::uint64_t start, const ReturningCall& call) {
    gadgets.syscall = start + call.offset;
    gadgets.pops = call.pops;
    gadgets.syscall_returns = true;
  };
  for (const proc::Vma& vma : maps) {
    if (vma.name != "[vdso]" || !vma.executable) continue;
    std::vector<std::byte> code(vma.size_bytes());
    if (!sys::process_vm_read(pid, vma.start, code)) continue;
    if (const auto call = returning_call(code, is_32)) take_call(vma.start, *call);
    else if (const auto any = is_32 ? find_int80(code) : find_syscall(code)) gadgets.syscall = vma.start + *any;
    if (!is_32) continue;  // it has no restorer
    if (const auto restorer = find_restorer32(code)) gadgets.restorer = vma.start + *restorer;
    if (const auto restorer = find_old_restorer32(code)) gadgets.old_restorer = vma.start + *restorer;
  }
  for (const proc::Vma& vma : maps) {
    if (gadgets.complete()) break;
    if (!vma.executable || !vma.readable || vma.name.starts_with("[vsyscall]") || vma.name == "[vdso]") continue;
    const Known& known = look_into(pid, proc_dir, vma, is_32);
    if (known.restorer && gadgets.restorer == 0) gadgets.restorer = vma.start + *known.restorer;
    if (known.syscall && !gadgets.syscall_returns) take_call(vma.start, *known.syscall);
  }
  if (gadgets.syscall == 0)
    return fail(Error::unsupported("no system call instruction found in the vdso or the program's code"));
  return gadgets;
}

const GadgetFinder::Known& GadgetFinder::look_into(pid_t pid, int proc_dir, const proc::Vma& vma, bool is_32) {
  const auto same = [&](const Known& k) {
    return vma.inode != 0 && k.inode == vma.inode && k.offset == vma.offset && k.size == vma.size_bytes() &&
           k.major == vma.device_major && k.minor == vma.device_minor && k.is_32 == is_32;
  };
  if (const auto at = std::find_if(known_.begin(), known_.end(), same); at != known_.end()) return *at;
  Known known{vma.inode, vma.offset, vma.size_bytes(), vma.device_major, vma.device_minor, is_32, {}, {}};
  const auto examine = [&](std::span<const std::byte> code) {
    known.restorer = is_32 ? find_restorer32(code) : find_restorer(code);
    known.syscall = returning_call(code, is_32);
  };
  // The file itself costs no copying; memory without one is read.
  const auto file = sys::openat(proc_dir, format("map_files/{:x}-{:x}", vma.start, vma.end), O_RDONLY);
  if (file) {
    // Not beyond the file's end: touching that would be a SIGBUS.
    const auto stat = sys::fstat(file->get());
    const std::uint64_t file_bytes = stat ? static_cast<std::uint64_t>(stat->st_size) : 0;
    const std::uint64_t bytes =
        file_bytes > vma.offset ? std::min(vma.size_bytes(), file_bytes - vma.offset) : 0;
    if (bytes > 0) {
      if (auto code = sys::Mapping::map(file->get(), bytes, PROT_READ, MAP_PRIVATE, vma.offset))
        examine(code->bytes());
    }
  } else {
    constexpr std::uint64_t kMostBytes = 16 << 20;
    std::vector<std::byte> code(std::min(vma.size_bytes(), kMostBytes));
    if (sys::process_vm_read(pid, vma.start, code)) examine(code);
  }
  known_.push_back(known);
  return known_.back();
}

}  // namespace dormouse::parasite
