#include "engine/files/build_id.h"

#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>

#include "engine/files/live_table.h"

namespace dormouse::engine {
namespace {

struct SmallElf {
  Elf64_Ehdr header{};
  Elf64_Phdr program{};
  Elf64_Nhdr note{};
  char name[4] = {'G', 'N', 'U', 0};
  unsigned char id[8] = {1, 2, 3, 4, 5, 6};

  SmallElf() {
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_phoff = offsetof(SmallElf, program);
    header.e_phentsize = sizeof program;
    header.e_phnum = 1;
    program.p_type = PT_NOTE;
    program.p_offset = offsetof(SmallElf, note);
    program.p_filesz = sizeof note + sizeof name + sizeof id;
    note = {4, 6, NT_GNU_BUILD_ID};
  }
  std::vector<std::uint32_t> build_id() const {
    const Fd file = must(sys::memfd_create("elf"));
    must(sys::write_all(file.get(), std::as_bytes(std::span(this, 1))));
    return build_id_of(file.get(), sizeof *this);
  }
};

TEST(BuildId, IsPaddedToWords) {
  EXPECT_EQ(SmallElf().build_id(), (std::vector<std::uint32_t>{0x04030201, 0x00000605}));
}

TEST(BuildId, IsFoundInMemory) {
  const SmallElf elf;
  const Fd self = must(sys::openat(AT_FDCWD, "/proc/self", O_PATH | O_DIRECTORY));
  const auto address = reinterpret_cast<std::uint64_t>(&elf);
  EXPECT_EQ(build_id_in_memory(self.get(), address, sizeof elf), elf.build_id());
  // What is not among the bytes may be in the file all the same.
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{8}, sizeof elf.header, offsetof(SmallElf, note), sizeof elf - 1})
    EXPECT_FALSE(build_id_in_memory(self.get(), address, bytes)) << bytes;
  const char text[] = "no program at all";
  EXPECT_EQ(build_id_in_memory(self.get(), reinterpret_cast<std::uint64_t>(text), sizeof text), std::vector<std::uint32_t>());
}

TEST(BuildId, DamagedHeadersHaveNone) {
  for (const std::uint32_t size : {0u, 9u, 4096u, ~0u}) {
    SmallElf elf;
    elf.note.n_descsz = size;
    EXPECT_TRUE(elf.build_id().empty()) << size;
  }
  SmallElf elf;
  elf.note.n_namesz = ~0u;
  EXPECT_TRUE(elf.build_id().empty());
  elf = {};
  elf.header.e_phoff = ~0ull;
  EXPECT_TRUE(elf.build_id().empty());
  elf = {};
  elf.program.p_filesz = 1 << 30;
  EXPECT_TRUE(elf.build_id().empty());
  elf = {};
  elf.header.e_ident[0] = 'M';
  EXPECT_TRUE(elf.build_id().empty());
}

}  // namespace
}  // namespace dormouse::engine
