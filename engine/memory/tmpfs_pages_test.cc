#include "engine/memory/tmpfs_pages.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <cstring>
#include <vector>

#include "kernel/file.h"

namespace dormouse::engine {
namespace {

constexpr std::uint64_t kPage = 4096;

Fd file_on_tmpfs() { return Fd(::memfd_create("pages", MFD_CLOEXEC)); }

TEST(TmpfsPages, WhatIsFilledIsInTheFile) {
  const Fd file = file_on_tmpfs();
  auto pages = TmpfsPages::open(file.get(), 3 * kPage);
  if (!pages) GTEST_SKIP() << "no userfaultfd for us";
  alignas(kPage) static std::byte ours[2 * kPage];
  std::memset(ours, 0x5a, sizeof ours);
  ::uffdio_copy copy{};
  copy.dst = pages->address_of(kPage);
  copy.src = reinterpret_cast<std::uint64_t>(ours);
  copy.len = sizeof ours;
  ASSERT_EQ(::ioctl(pages->userfaultfd(), UFFDIO_COPY, &copy), 0);
  pages->let_go_before(2 * kPage);
  pages->let_go_before(3 * kPage);
  pages.reset();
  std::vector<std::byte> read(3 * kPage);
  ASSERT_TRUE(sys::pread_exactly(file.get(), read, 0));
  EXPECT_EQ(read[0], std::byte{0});
  EXPECT_EQ(std::memcmp(read.data() + kPage, ours, sizeof ours), 0);
}

TEST(TmpfsPages, OnlyOnTmpfs) {
  EXPECT_FALSE(TmpfsPages::open(file_on_tmpfs().get(), 0));
  const Fd proc = sys::openat(AT_FDCWD, "/proc/self/comm", O_RDWR).value();
  EXPECT_FALSE(TmpfsPages::open(proc.get(), kPage));
}

}  // namespace
}  // namespace dormouse::engine
