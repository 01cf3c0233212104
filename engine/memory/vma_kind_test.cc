#include "engine/memory/vma_kind.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "engine/memory/shared_pages.h"

namespace dormouse::engine {
namespace {

proc::Vma vma(std::string_view smaps_line, std::string_view flags) {
  const std::string text = std::string(smaps_line) + "\nVmFlags: " + std::string(flags) + "\n";
  return proc::parse_smaps(text).value().at(0);
}

Result<pb::vma_entry> describe(const proc::Vma& of) {
  return describe_vma(of, MemoryMounts({makedev(0, 1), makedev(0, 0x10)}));
}

TEST(VmaKind, HeapIsPrivateAnonymousMemory) {
  const auto entry = describe(vma("fe07000-fe29000 rw-p 00000000 00:00 0 [heap]", "rd wr mr mw me ac")).value();
  EXPECT_EQ(entry.status(), 545u);
  EXPECT_EQ(entry.flags(), static_cast<std::uint32_t>(MAP_PRIVATE | MAP_ANONYMOUS));
  EXPECT_EQ(entry.prot(), static_cast<std::uint32_t>(PROT_READ | PROT_WRITE));
  EXPECT_TRUE(has_private_pages(entry));
}

TEST(VmaKind, StackGrowsDown) {
  const auto entry = describe(vma("7ffd5e5d0000-7ffd5e5f1000 rw-p 00000000 00:00 0 [stack]", "rd wr mr mw me gd ac")).value();
  EXPECT_EQ(entry.status(), 513u);
  EXPECT_EQ(entry.flags(), 290u);
}

TEST(VmaKind, SharedAnonymousMemoryIsKnownByItsInode) {
  const auto entry = describe(vma("7f0000000000-7f0000001000 rw-s 00002000 00:01 398 /dev/zero (deleted)", "rd wr sh mr mw me ms")).value();
  EXPECT_EQ(entry.status(), 257u);
  EXPECT_EQ(entry.shmid(), anonymous_shmid(398, false));
  EXPECT_EQ(inode_of_anonymous(entry.shmid()), 398u);
  EXPECT_EQ(entry.pgoff(), 0x2000u);
  EXPECT_FALSE(has_private_pages(entry));
}

TEST(VmaKind, ASharedMappingThatMayBeWrittenNeedsAWritableDescriptor) {
  constexpr std::string_view kLine = "7f0000000000-7f0000001000 r--s 00000000 fe:00 17 /data";
  EXPECT_EQ(describe(vma(kLine, "rd sh mr mw me ms")).value().fdflags(), static_cast<std::uint32_t>(O_RDWR));
  EXPECT_EQ(describe(vma(kLine, "rd mr me ms")).value().fdflags(), static_cast<std::uint32_t>(O_RDONLY));
}

TEST(VmaKind, AdviceIsABitPerNumber) {
  const auto entry = describe(vma("7f0000000000-7f0000001000 rw-p 00000000 00:00 0", "rd wr mr mw me dd hg")).value();
  EXPECT_EQ(entry.madv(), (1ull << MADV_DONTDUMP) | (1ull << MADV_HUGEPAGE));
}

TEST(VmaKind, SpecialMappingsHaveTheirOwnStatus) {
  EXPECT_EQ(describe(vma("7ffe0000-7ffe2000 r-xp 00000000 00:00 0 [vdso]", "rd ex mr mw me de")).value().status(), 521u);
  EXPECT_EQ(describe(vma("7ffe0000-7ffe2000 r--p 00000000 00:00 0 [vvar]", "rd mr pf io de dd")).value().status(), 4609u);
  const auto vsyscall = describe(vma("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]", "ex")).value();
  EXPECT_EQ(vsyscall.status(), 516u);
  EXPECT_FALSE(has_private_pages(vsyscall));
}

TEST(VmaKind, SystemVMemoryIsKnownByItsId) {
  const auto entry = describe(vma("7f0000000000-7f0000001000 r--s 00003000 00:01 32769 /SYSV00004711 (deleted)", "rd sh mr me ms")).value();
  EXPECT_EQ(entry.status(), 1281u);
  EXPECT_EQ(entry.shmid(), 32769u);
  EXPECT_EQ(entry.pgoff(), 0x3000u);
  EXPECT_EQ(entry.fdflags(), static_cast<std::uint32_t>(O_RDONLY));
  EXPECT_FALSE(is_shared_anonymous(entry));
  EXPECT_TRUE(describe(vma("7f0000000000-7f0000200000 rw-s 00000000 00:10 3 /SYSV00000001 (deleted)", "rd wr sh mr mw me ms ht")));
  const auto file = describe(vma("7f0000000000-7f0000001000 rw-s 00000000 fe:00 17 /SYSV0 (deleted)", "rd wr sh mr mw me ms"));
  EXPECT_TRUE(is_file_mapping(file.value()));
}

TEST(VmaKind, FilesThatAreCalledLikeMemoryAreFiles) {
  for (const char* name : {"/memfd:x", "/dev/zero", "/SYSV00000001", "/anon_hugepage", "/[aio]", "/secretmem"}) {
    const auto in_a_tmpfs = describe(vma(std::string("7f0000000000-7f0000001000 rw-s 00000000 00:2f 17 ") + name + " (deleted)", "rd wr sh mr mw me ms"));
    ASSERT_TRUE(in_a_tmpfs) << name;
    EXPECT_EQ(in_a_tmpfs->status(), vma_status::kRegular | vma_status::kFileShared) << name;
  }
}

TEST(VmaKind, AnAioRingIsItsOwnKind) {
  const auto entry = describe(vma("7f0000000000-7f0000003000 rw-s 00000000 00:11 5 /[aio] (deleted)", "rd wr sh mr mw me ms de")).value();
  EXPECT_EQ(entry.status(), 8192u);
  EXPECT_EQ(entry.flags(), static_cast<std::uint32_t>(MAP_SHARED));
  EXPECT_TRUE(has_private_pages(entry));
}

TEST(VmaKind, MemfdsAreFilesOfMemory) {
  constexpr std::string_view kMemfd = "7f0000000000-7f0000001000 rw-{} 00001000 00:01 2055 /memfd:a name (deleted)";
  const auto line = [&](char how) { return std::string(kMemfd).replace(kMemfd.find("{}"), 2, 1, how); };
  const auto shared = describe(vma(line('s'), "rd wr sh mr mw me ms")).value();
  EXPECT_EQ(shared.status(), vma_status::kRegular | vma_status::kFileShared | vma_status::kMemfd);
  EXPECT_EQ(shared.flags(), static_cast<std::uint32_t>(MAP_SHARED));
  EXPECT_EQ(shared.fdflags(), static_cast<std::uint32_t>(O_RDWR));
  EXPECT_FALSE(has_private_pages(shared));
  const auto own = describe(vma(line('p'), "rd wr mr mw me ac")).value();
  EXPECT_EQ(own.status(), vma_status::kRegular | vma_status::kFilePrivate | vma_status::kMemfd);
  EXPECT_TRUE(has_private_pages(own));
}

TEST(VmaKind, HugePagesSayHowLargeTheyAre) {
  const auto with_size = [](std::string line) {
    return describe(vma(line + "\nKernelPageSize:     2048 kB", "rd wr mr mw me de ht")).value();
  };
  const auto own = with_size("7f0000000000-7f0000200000 rw-p 00000000 00:10 5 /anon_hugepage (deleted)");
  EXPECT_EQ(own.status(), vma_status::kRegular | vma_status::kAnonPrivate);
  EXPECT_EQ(own.flags(), static_cast<std::uint32_t>(MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | 21 << MAP_HUGE_SHIFT));
  EXPECT_EQ(page_bytes_of(own.flags()), 2u << 20);
  const auto shared = with_size("7f0000000000-7f0000200000 rw-s 00000000 00:10 5 /anon_hugepage (deleted)");
  EXPECT_TRUE(is_shared_anonymous(shared));
  EXPECT_EQ(shared.shmid(), anonymous_shmid(5, true));
  EXPECT_EQ(page_bytes_of(MAP_PRIVATE), 4096u);
}

TEST(VmaKind, DroppableMemoryHasNoContent) {
  const auto entry = describe(vma("7f0000000000-7f0000001000 rw-p 00000000 00:00 0", "rd wr mr mw me nr wf dd dp")).value();
  EXPECT_EQ(entry.flags() & MAP_TYPE, 8u);  // MAP_DROPPABLE
  EXPECT_FALSE(has_private_pages(entry));
}

TEST(VmaKind, LocksAreAtOnceOrAsPagesCome) {
  constexpr std::string_view kLine = "7f0000000000-7f0000001000 rw-p 00000000 00:00 0";
  const auto at_once = describe(vma(kLine, "rd wr mr mw me lo")).value().flags();
  EXPECT_EQ(at_once & (MAP_LOCKED | MAP_NONBLOCK), static_cast<std::uint32_t>(MAP_LOCKED));
  const auto as_they_come = describe(vma(kLine, "rd wr mr mw me lo lf")).value().flags();
  EXPECT_EQ(as_they_come & (MAP_LOCKED | MAP_NONBLOCK), static_cast<std::uint32_t>(MAP_LOCKED | MAP_NONBLOCK));
}

TEST(VmaKind, ProtectionKeysAreRefusedButForTheKernelsOwn) {
  const auto with_key = [](const char* protection, const char* flags) {
    return describe(vma(std::string("7f0000000000-7f0000001000 ") + protection + " 00000000 00:00 0\nProtectionKey:         1", flags));
  };
  EXPECT_FALSE(with_key("rw-p", "rd wr mr mw me"));
  EXPECT_TRUE(with_key("--xp", "ex mr mw me"));  // execute-only memory
}

TEST(VmaKind, GuardsAreRecordsOfTheirOwn) {
  const auto guard = describe_guard(0x1000, 0x3000);
  EXPECT_TRUE(is_guard(guard));
  EXPECT_EQ(guard.status(), 1u << 16);
  EXPECT_FALSE(has_private_pages(guard) || is_file_mapping(guard) || is_shared_anonymous(guard));
}

TEST(VmaKind, RefusalsNameTheMappingAndWhatToDo) {
  const auto refused = describe(vma("7f0000000000-7f0000001000 rw-s 00000000 00:0f 9 anon_inode:[io_uring]", "rd wr sh"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(),
            "mapping 7f0000000000-7f0000001000 anon_inode:[io_uring]: io_uring rings cannot be saved "
            "(close the ring before the checkpoint)");
  EXPECT_FALSE(describe(vma("7f0000000000-7f0000001000 rw-s 00000000 00:05 7 /secretmem (deleted)", "rd wr sh lo dd")));
  EXPECT_FALSE(describe(vma("7f0000000000-7f0000001000 rw-s 00000000 00:05 7 /secretmem (deleted)", "rd wr sh dd sd")));
  EXPECT_TRUE(describe(vma("7f0000000000-7f0000001000 rw-s 00000000 fe:00 7 /secretmem (deleted)", "rd wr sh")));
  EXPECT_FALSE(describe(vma("7f0000000000-7f0000200000 rw-p 00000000 00:00 0", "rd wr um")));
  EXPECT_FALSE(describe(vma("7f0000000000-7f0000200000 rw-s 00000000 00:05 7 /dev/mem", "rd wr sh pf io")));
}

}  // namespace
}  // namespace dormouse::engine
