#include "images/types.h"

#include <gtest/gtest.h>

#include "images/catalogue.h"
#include "images/own_types.h"

namespace dormouse::images {
namespace {

TEST(FileName, PutsTheNumberInPlace) {
  EXPECT_EQ(file_name(kInventory), "inventory.img");
  EXPECT_EQ(file_name(kCore, 17), "core-17.img");
  EXPECT_EQ(file_name(kTmpfsDev, 41), "tmpfs-dev-41.tar.gz.img");
  EXPECT_EQ(file_name(kGhostFile, 0x1a), "ghost-file-1a.img");
  EXPECT_EQ(file_name(kTcpStream, 0xdeadbeef), "tcp-stream-deadbeef.img");
  EXPECT_EQ(file_name(kPages, UINT64_MAX), "pages-18446744073709551615.img");
}

TEST(FindKind, FindsTypeAndNumber) {
  const auto expect = [](const char* name, const ImageType& type, std::optional<std::uint64_t> number) {
    const auto found = find_kind(name);
    ASSERT_TRUE(found) << name;
    EXPECT_EQ(found->kind->type->name, type.name);
    EXPECT_EQ(found->number, number);
  };
  expect("inventory.img", kInventory, std::nullopt);
  expect("core-17.img", kCore, 17);
  expect("pagemap-3.img", kPagemap, 3);
  expect("pagemap-shmem-3.img", kShmemPagemap, 3);
  expect("tmpfs-7.tar.gz.img", kTmpfs, 7);
  expect("tmpfs-dev-7.tar.gz.img", kTmpfsDev, 7);
  expect("ghost-file-1a.img", kGhostFile, 0x1a);
  expect("netns-9.img", kNetns, 9);
  expect("netns-ct-9.img", kNetnsConntrack, 9);
  expect("dormouse-task-17", kDormouseTask, 17);
  expect("dormouse-memory-17", kDormouseMemory, 17);
  expect("stats-dump", kStatsDump, std::nullopt);
}

TEST(FindKind, KnowsNoOtherNames) {
  for (const char* name : {"", "core.img", "core-.img", "core-1a.img", "core-01.img", "core--1.img", "core-1.img~",
                           "xcore-1.img", "dump.log", "dormouse.json", "core-18446744073709551616.img",
                           "ghost-file-1A.img", "pages-1.img.new"})
    EXPECT_FALSE(find_kind(name)) << name;
}

}  // namespace
}  // namespace dormouse::images
