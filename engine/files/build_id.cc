#include "engine/files/build_id.h"

#include <elf.h>
#include <fcntl.h>

#include <cstring>
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

bool read_at(int fd, std::uint64_t offset, std::span<std::byte> to) {
  return sys::pread_exactly(fd, to, offset).has_value();
}

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
std::vector<std::uint32_t> find_in_elf(int fd) {
  Header header;
  if (!read_at(fd, 0, std::as_writable_bytes(std::span(&header, 1)))) return {};
  if (header.e_phentsize != sizeof(ProgramHeader) || header.e_phnum > kMaxProgramHeaders) return {};
  std::vector<ProgramHeader> programs(header.e_phnum);
  if (!read_at(fd, header.e_phoff, std::as_writable_bytes(std::span(programs)))) return {};
  for (const ProgramHeader& program : programs) {
    if (program.p_type != PT_NOTE || program.p_filesz > kMaxNotesBytes) continue;
    std::vector<std::byte> notes(program.p_filesz);
    if (!read_at(fd, program.p_offset, notes)) continue;
    if (auto words = find_in_notes(notes); !words.empty()) return words;
  }
  return {};
}

}  // namespace

std::vector<std::uint32_t> build_id_of(int fd, std::uint64_t size_bytes) {
  if (size_bytes < sizeof(Elf32_Ehdr)) return {};
  const auto readable = sys::openat(AT_FDCWD, format("/proc/self/fd/{}", fd), O_RDONLY | O_NONBLOCK);
  if (!readable) return {};
  unsigned char ident[EI_NIDENT];
  if (!read_at(readable->get(), 0, std::as_writable_bytes(std::span(ident)))) return {};
  if (std::memcmp(ident, ELFMAG, SELFMAG) != 0 || ident[EI_DATA] != ELFDATA2LSB) return {};
  switch (ident[EI_CLASS]) {
    case ELFCLASS32: return find_in_elf<Elf32_Ehdr, Elf32_Phdr>(readable->get());
    case ELFCLASS64: return find_in_elf<Elf64_Ehdr, Elf64_Phdr>(readable->get());
    default: return {};
  }
}

}  // namespace dormouse::engine
