#include "engine/files/build_id.h"

#include <elf.h>
#include <fcntl.h>

#include <cstring>
#include <functional>
#include <span>

#include "base/format.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

// Nothing that a linker writes is larger; a damaged header may claim anything.
constexpr std::size_t kMaxProgramHeaders = 512;
constexpr std::size_t kMaxNotesBytes = 64 << 10;
constexpr std::size_t kMaxBuildIdBytes = 512;

std::size_t padded(std::size_t bytes) { return (bytes + 3) & ~std::size_t{3}; }

// Reads the file's bytes from an offset on; false: it has none there, or cannot.
using ReadAt = std::function<bool(std::uint64_t offset, std::span<std::byte> to)>;
using BuildId = std::vector<std::uint32_t>;

std::vector<std::uint32_t> find_in_notes(std::span<const std::byte> notes) {
  while (notes.size() >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr note;  // the same in both classes
    std::memcpy(&note, notes.data(), sizeof note);
    const std::size_t name_at = sizeof note;
    if (note.n_namesz > notes.size() || note.n_descsz > notes.size()) return {};
    const std::size_t description_at = name_at + padded(note.n_namesz);
    if (description_at + note.n_descsz > notes.size()) return {};
    const bool is_gnu = note.n_namesz == 4 && std::memcmp(notes.data() + name_at, "GNU", 4) == 0;
    if (is_gnu && note.n_type == NT_GNU_BUILD_ID) {
      if (note.n_descsz == 0 || note.n_descsz > kMaxBuildIdBytes) return {};
      std::vector<std::uint32_t> words(padded(note.n_descsz) / 4);
      std::memcpy(words.data(), notes.data() + description_at, note.n_descsz);
      return words;
    }
    notes = notes.subspan(std::min(notes.size(), description_at + padded(note.n_descsz)));
  }
  return {};
}

template <class Header, class ProgramHeader>
std::optional<BuildId> find_in_elf(const ReadAt& read_at) {
  Header header;
  if (!read_at(0, std::as_writable_bytes(std::span(&header, 1)))) return std::nullopt;
  if (header.e_phentsize != sizeof(ProgramHeader) || header.e_phnum > kMaxProgramHeaders) return BuildId();
  std::vector<ProgramHeader> programs(header.e_phnum);
  if (!read_at(header.e_phoff, std::as_writable_bytes(std::span(programs)))) return std::nullopt;
  bool all_read = true;
  for (const ProgramHeader& program : programs) {
    if (program.p_type != PT_NOTE || program.p_filesz > kMaxNotesBytes) continue;
    std::vector<std::byte> notes(program.p_filesz);
    if (!read_at(program.p_offset, notes)) all_read = false;
    else if (auto words = find_in_notes(notes); !words.empty()) return words;
  }
  return all_read ? std::optional(BuildId()) : std::nullopt;
}

// Nothing: not all of it could be read.
std::optional<BuildId> find(const ReadAt& read_at) {
  unsigned char ident[EI_NIDENT];
  if (!read_at(0, std::as_writable_bytes(std::span(ident)))) return std::nullopt;
  if (std::memcmp(ident, ELFMAG, SELFMAG) != 0 || ident[EI_DATA] != ELFDATA2LSB) return BuildId();
  switch (ident[EI_CLASS]) {
    case ELFCLASS32: return find_in_elf<Elf32_Ehdr, Elf32_Phdr>(read_at);
    case ELFCLASS64: return find_in_elf<Elf64_Ehdr, Elf64_Phdr>(read_at);
    default: return BuildId();
  }
}

}  // namespace

std::vector<std::uint32_t> build_id_of(int fd, std::uint64_t size_bytes) {
  if (size_bytes < sizeof(Elf32_Ehdr)) return {};
  const auto readable = sys::openat(AT_FDCWD, format("/proc/self/fd/{}", fd), O_RDONLY | O_NONBLOCK);
  if (!readable) return {};
  return find([&](std::uint64_t offset, std::span<std::byte> to) {
    return sys::pread_exactly(readable->get(), to, offset).has_value();
  }).value_or(BuildId());
}

std::optional<std::vector<std::uint32_t>> build_id_in_memory(int proc, std::uint64_t address, std::uint64_t bytes) {
  if (bytes == 0) return std::nullopt;
  const auto memory = sys::openat(proc, "mem", O_RDONLY);
  if (!memory) return std::nullopt;
  return find([&](std::uint64_t offset, std::span<std::byte> to) {
    return offset <= bytes && to.size() <= bytes - offset && sys::pread_exactly(memory->get(), to, address + offset).has_value();
  });
}

}  // namespace dormouse::engine
