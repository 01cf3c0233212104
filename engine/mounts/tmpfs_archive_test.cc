// A tmpfs saved and restored: round trip, and both ways against GNU tar. Making files of any owner and
// kind takes root.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <map>
#include <string>
#include <string_view>

#include "base/format.h"
#include "engine/mounts/tmpfs_restore.h"
#include "engine/mounts/tmpfs_save.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

// tar --create --gzip --no-unquote --no-wildcards --one-file-system --check-links --preserve-permissions
// --sparse --numeric-owner, GNU tar 1.34.
constexpr std::array<unsigned char, 445> kReferenceArchive{
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xed, 0xda, 0xcd, 0x6e, 0x82, 0x40,
    0x10, 0x07, 0xf0, 0x3d, 0xfb, 0x14, 0xfb, 0x04, 0xb0, 0x03, 0xfb, 0x71, 0xed, 0x03, 0x78, 0xeb,
    0xb5, 0x17, 0x13, 0xb0, 0x92, 0xae, 0x90, 0x58, 0x8d, 0x7d, 0xfb, 0x76, 0x17, 0x43, 0x53, 0x5a,
    0x5b, 0x62, 0xe3, 0xb0, 0x6d, 0xfc, 0xff, 0x62, 0x84, 0x90, 0x98, 0x19, 0x18, 0x66, 0xd9, 0x2c,
    0x66, 0xb9, 0x60, 0xa7, 0x94, 0x22, 0xe7, 0x5c, 0xdc, 0x46, 0x9f, 0xb7, 0xfd, 0x3e, 0x99, 0x52,
    0x29, 0x4d, 0xca, 0x2a, 0x0a, 0xc7, 0xad, 0x72, 0x5a, 0x48, 0xc3, 0x9f, 0x9a, 0x10, 0x87, 0xe7,
    0xfd, 0x6a, 0x27, 0xe5, 0x1c, 0xa1, 0xfe, 0xa2, 0x2c, 0xaf, 0xd8, 0xef, 0x80, 0x58, 0x60, 0x67,
    0xcc, 0x25, 0xf5, 0x2f, 0xa9, 0x40, 0xfd, 0xe7, 0x10, 0xeb, 0xbf, 0x6e, 0x7c, 0xcd, 0x19, 0x23,
    0x16, 0xd8, 0xea, 0x2f, 0x75, 0xff, 0x50, 0x7f, 0x2b, 0x48, 0x9b, 0x42, 0x3b, 0xa7, 0x74, 0x7f,
    0xdc, 0x91, 0x25, 0x21, 0x15, 0x67, 0x52, 0x83, 0x1b, 0xaf, 0xff, 0xa6, 0xf6, 0xbe, 0x5b, 0xa4,
    0xce, 0x02, 0x52, 0x89, 0xfd, 0xbf, 0x3f, 0x36, 0x2d, 0x67, 0x8c, 0xe9, 0xfe, 0x57, 0xe3, 0xfe,
    0x27, 0xa5, 0x4b, 0x2b, 0x24, 0xcd, 0x31, 0x38, 0xdd, 0x78, 0xff, 0x9f, 0x2e, 0xf1, 0xba, 0xe3,
    0x8c, 0x71, 0xaa, 0xbf, 0xbe, 0xe0, 0xf9, 0xef, 0xc8, 0x84, 0xf9, 0x9f, 0xe5, 0x4c, 0x6a, 0x80,
    0xfa, 0xe7, 0xbe, 0x69, 0x9f, 0x38, 0x63, 0xf4, 0xf3, 0xbf, 0xa9, 0xf9, 0xff, 0xa8, 0xff, 0x29,
    0x7c, 0x84, 0x2c, 0xb2, 0x2c, 0x6f, 0xbb, 0xe3, 0xa6, 0xde, 0x31, 0x8e, 0x00, 0xa8, 0x7f, 0xde,
    0x55, 0x95, 0x7c, 0x5d, 0x3c, 0xb4, 0xab, 0x2d, 0xcf, 0x75, 0x9e, 0xee, 0x7f, 0x1a, 0xf7, 0x7f,
    0x18, 0xff, 0xc3, 0xe3, 0x02, 0xf3, 0xbf, 0x19, 0xbc, 0xa4, 0x4e, 0x00, 0x92, 0x8a, 0xfd, 0xbf,
    0xe9, 0x7c, 0xfd, 0xcc, 0x18, 0xe3, 0xe7, 0xfe, 0xa7, 0x33, 0xe3, 0xbf, 0x36, 0x26, 0x8c, 0xff,
    0xf7, 0x8c, 0x39, 0xbd, 0x4b, 0xde, 0xff, 0xf1, 0xf4, 0x8b, 0x33, 0x57, 0x24, 0x7e, 0xe9, 0x33,
    0x4f, 0xca, 0x5f, 0x05, 0xd0, 0xdf, 0xfd, 0x78, 0xdb, 0x54, 0x15, 0xef, 0x04, 0x1b, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x52, 0x8b, 0xeb, 0x3f, 0xed, 0xc1, 0x7b, 0xce, 0x18, 0x17, 0xbf,
    0xff, 0x89, 0xeb, 0xbf, 0x5a, 0xc8, 0x92, 0x33, 0xa9, 0xc1, 0xb5, 0xd6, 0x7f, 0x86, 0x85, 0xec,
    0xd3, 0x76, 0x96, 0xd4, 0xaf, 0x21, 0xcb, 0xb3, 0xfc, 0x6e, 0xd9, 0xb5, 0x8f, 0x4b, 0xbe, 0x97,
    0x40, 0x53, 0xf5, 0x27, 0x67, 0x46, 0xf7, 0x42, 0xff, 0xb6, 0xc8, 0x0a, 0xb9, 0x64, 0xca, 0x67,
    0x24, 0xf9, 0xfa, 0x5f, 0x5a, 0x7d, 0xff, 0x27, 0x92, 0xfa, 0xdc, 0x61, 0x9e, 0xfa, 0x4f, 0x8f,
    0xff, 0x66, 0x3c, 0xfe, 0x97, 0x61, 0xdf, 0xe1, 0xfd, 0xdf, 0x1c, 0x7c, 0x18, 0xfa, 0xf1, 0xf7,
    0x2f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x80, 0xff, 0xe9, 0x0d, 0x92, 0x0d, 0xa8, 0xfd, 0x00, 0x50, 0x00, 0x00,
};

class TmpfsArchive : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    ::umask(0);
    char name[] = "/tmp/dormouse-archive-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    top_ = name;
    from_ = directory("from");
    to_ = directory("to");
  }
  void TearDown() override {
    if (!top_.empty()) run("rm -rf " + top_);
  }

  Fd directory(const std::string& name) {
    EXPECT_EQ(::mkdir((top_ + '/' + name).c_str(), 0755), 0);
    return Fd(::open((top_ + '/' + name).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  static bool run(const std::string& command) { return ::system(command.c_str()) == 0; }

  void write(const std::string& name, std::string_view text, mode_t mode = 0644) {
    const Fd fd(::openat(from_.get(), name.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, mode));
    ASSERT_TRUE(fd);
    ASSERT_TRUE(sys::write_all(fd.get(), text));
  }

  std::string save() {
    std::string bytes;
    const auto result = save_tmpfs(from_.get(), map_, map_, leases_, log_, [&](std::span<const std::byte> part) {
      bytes.append(reinterpret_cast<const char*>(part.data()), part.size());
      return Result<>{};
    });
    EXPECT_TRUE(result) << result.error().message();
    return bytes;
  }
  Result<> restore(std::string_view bytes) {
    Fd file = *sys::memfd_create("archive");
    EXPECT_TRUE(sys::write_all(file.get(), bytes));
    EXPECT_TRUE(sys::lseek(file.get(), 0, SEEK_SET));
    return restore_tmpfs(to_.get(), std::move(file), log_);
  }

  struct ::stat stat(const Fd& root, const std::string& name) {
    struct ::stat result {};
    EXPECT_EQ(::fstatat(root.get(), name.c_str(), &result, AT_SYMLINK_NOFOLLOW), 0) << name;
    return result;
  }
  std::string text(const std::string& name) {
    return sys::read_file(to_.get(), name).value_or("(missing)");
  }
  // The same kind, owner, mode, time and size at both places.
  void expect_same(const std::string& name) {
    const auto a = stat(from_, name), b = stat(to_, name);
    EXPECT_EQ(a.st_mode, b.st_mode) << name;
    EXPECT_EQ(a.st_uid, b.st_uid) << name;
    EXPECT_EQ(a.st_gid, b.st_gid) << name;
    EXPECT_EQ(a.st_rdev, b.st_rdev) << name;
    EXPECT_EQ(a.st_mtim.tv_sec, b.st_mtim.tv_sec) << name;
    EXPECT_EQ(a.st_mtim.tv_nsec, b.st_mtim.tv_nsec) << name;
    EXPECT_TRUE(S_ISDIR(a.st_mode) || a.st_size == b.st_size) << name;
  }

  std::string top_;
  Fd from_, to_;
  MapId map_;
  NullLog log_;
  Leases leases_;
};

TEST_F(TmpfsArchive, KeepsEveryKindOfFile) {
  const std::string odd = "odd \xff\n\\name";
  const std::string longer(200, 'n');
  write("file", "hello\n", 04751);
  write("empty", "");
  write(odd, "x");
  write(longer, "long");
  ASSERT_EQ(::mkdirat(from_.get(), "sub", 01777), 0);
  write("sub/inner", std::string(700'000, 'i'));
  ASSERT_EQ(::fchownat(from_.get(), "sub/inner", 1000, 3'000'000, 0), 0);
  ASSERT_EQ(::linkat(from_.get(), "sub/inner", from_.get(), "twin", 0), 0);
  ASSERT_EQ(::symlinkat("../nowhere", from_.get(), "link"), 0);
  ASSERT_EQ(::symlinkat(longer.c_str(), from_.get(), "long link"), 0);
  ASSERT_EQ(::fchownat(from_.get(), "link", 12, 34, AT_SYMLINK_NOFOLLOW), 0);
  ASSERT_EQ(::mknodat(from_.get(), "null", S_IFCHR | 0666, makedev(1, 3)), 0);
  ASSERT_EQ(::mknodat(from_.get(), "disk", S_IFBLK | 0600, makedev(300, 70'000)), 0);
  ASSERT_EQ(::mknodat(from_.get(), "fifo", S_IFIFO | 0640, 0), 0);
  const timespec old[2] = {{1, 2}, {1'000'000'000, 123'456'789}};
  ASSERT_EQ(::utimensat(from_.get(), "sub", old, 0), 0);
  const timespec ancient[2] = {{-5, 0}, {-1'000'000, 0}};
  ASSERT_EQ(::utimensat(from_.get(), "empty", ancient, 0), 0);

  const auto restored = restore(save());
  ASSERT_TRUE(restored) << restored.error().message();
  for (const auto& name : {std::string("file"), std::string("empty"), odd, longer, std::string("sub"),
                           std::string("sub/inner"), std::string("twin"), std::string("link"),
                           std::string("long link"), std::string("null"), std::string("disk"),
                           std::string("fifo"), std::string(".")})
    expect_same(name);
  EXPECT_EQ(text("file"), "hello\n");
  EXPECT_EQ(text(odd), "x");
  EXPECT_EQ(text("sub/inner"), std::string(700'000, 'i'));
  EXPECT_EQ(stat(to_, "twin").st_ino, stat(to_, "sub/inner").st_ino);
  EXPECT_EQ(sys::readlinkat(to_.get(), "long link").value(), longer);
}

TEST_F(TmpfsArchive, KeepsHoles) {
  constexpr std::uint64_t kSize = 1ull << 40;
  write("holes", "");
  const Fd fd(::openat(from_.get(), "holes", O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(sys::ftruncate(fd.get(), kSize));
  // More ranges than the header and one extension have room for.
  for (int i = 1; i <= 40; ++i) ASSERT_TRUE(sys::pwrite_all(fd.get(), std::as_bytes(std::span("data", 4)), i * 1'000'000'000ull));
  const std::string archive = save();
  EXPECT_LT(archive.size(), 10'000u);
  const auto restored = restore(archive);
  ASSERT_TRUE(restored) << restored.error().message();
  expect_same("holes");
  EXPECT_LT(stat(to_, "holes").st_blocks, 1000);
  const Fd back(::openat(to_.get(), "holes", O_RDONLY | O_CLOEXEC));
  for (int i = 1; i <= 40; ++i) {
    char data[6] = {};
    ASSERT_EQ(::pread(back.get(), data, 6, static_cast<off_t>(i * 1'000'000'000ull) - 1), 6);
    EXPECT_EQ(std::string_view(data, 6), std::string_view("\0data\0", 6));
  }
}

TEST_F(TmpfsArchive, KeepsAFileThatIsOnlyAHole) {
  write("hole", "");
  ASSERT_EQ(::truncate((top_ + "/from/hole").c_str(), 12'345), 0);
  ASSERT_TRUE(restore(save()));
  expect_same("hole");
}

TEST_F(TmpfsArchive, KeepsExtendedAttributes) {
  write("file", "x");
  const std::string path = top_ + "/from/file";
  const std::string binary("\0\n= \xff", 5);
  if (::setxattr(path.c_str(), "trusted.test", binary.data(), binary.size(), 0) != 0)
    GTEST_SKIP() << "no extended attributes here";
  ASSERT_TRUE(restore(save()));
  char value[10];
  ASSERT_EQ(::getxattr((top_ + "/to/file").c_str(), "trusted.test", value, sizeof value), 5);
  EXPECT_EQ(std::string_view(value, 5), binary);
}

TEST_F(TmpfsArchive, TranslatesOwners) {
  write("file", "x");
  ASSERT_EQ(::fchownat(from_.get(), "file", 100'005, 100'006, 0), 0);
  map_ = [](std::uint32_t id) { return id >= 100'000 ? id - 100'000 : 65'534; };
  ASSERT_TRUE(restore(save()));
  EXPECT_EQ(stat(to_, "file").st_uid, 5u);
  EXPECT_EQ(stat(to_, "file").st_gid, 6u);
}

TEST_F(TmpfsArchive, IsReadableByGnuTar) {
  if (!run("tar --version >/dev/null 2>&1")) GTEST_SKIP() << "no tar here";
  write("file", "hello");
  write("odd \xff\n\\name", "x");
  write(std::string(200, 'n'), "long");
  write("holes", "");
  ASSERT_EQ(::truncate((top_ + "/from/holes").c_str(), 3 << 20), 0);
  const Fd fd(::openat(from_.get(), "holes", O_WRONLY | O_CLOEXEC));
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(sys::pwrite_all(fd.get(), std::as_bytes(std::span("data", 4)), i * 100'000));
  ASSERT_EQ(::mknodat(from_.get(), "null", S_IFCHR | 0666, makedev(1, 3)), 0);
  ASSERT_EQ(::setxattr((top_ + "/from/file").c_str(), "trusted.test", "v", 1, 0), 0);
  const std::string archive = save();
  const Fd file(::open((top_ + "/archive").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  ASSERT_TRUE(sys::write_all(file.get(), archive));
  ASSERT_TRUE(run(format("tar --extract --gzip --no-unquote --no-wildcards --directory {0}/to < {0}/archive", top_)));
  for (const auto& name : {"file", "odd \xff\n\\name", "holes", "null"}) expect_same(name);
  EXPECT_TRUE(run(format("cmp {0}/from/holes {0}/to/holes", top_)));
}

TEST_F(TmpfsArchive, ReadsTheReferencesArchive) {
  const auto restored = restore({reinterpret_cast<const char*>(kReferenceArchive.data()), kReferenceArchive.size()});
  ASSERT_TRUE(restored) << restored.error().message();
  EXPECT_EQ(stat(to_, ".").st_mode, static_cast<mode_t>(S_IFDIR | 01777));
  EXPECT_EQ(text("d/file"), "hello\n");
  EXPECT_EQ(stat(to_, "d/file").st_mode, static_cast<mode_t>(S_IFREG | 0640));
  EXPECT_EQ(stat(to_, "d/file").st_mtim.tv_sec, 1'700'000'000);
  EXPECT_EQ(stat(to_, "d/file").st_ino, stat(to_, "d/twin").st_ino);
  EXPECT_EQ(text("d/odd \xff\n\\name"), "x");
  EXPECT_EQ(text("d/" + std::string(120, 'n')), "long\n");
  EXPECT_EQ(sys::readlinkat(to_.get(), "d/link").value(), "../nowhere");
  EXPECT_TRUE(S_ISFIFO(stat(to_, "d/fifo").st_mode));
  EXPECT_EQ(stat(to_, "d/null").st_rdev, makedev(1, 3));
  const std::string holes = text("d/holes");
  ASSERT_EQ(holes.size(), 1u << 20);
  EXPECT_EQ(holes.substr(524'288, 6), "middle");
  EXPECT_EQ(holes.find_first_not_of('\0'), 524'288u);
}

TEST_F(TmpfsArchive, NamesWhatIsDamaged) {
  write("file", std::string(100'000, 'x'));
  std::string archive = save();
  archive.resize(archive.size() / 2);
  const auto restored = restore(archive);
  ASSERT_FALSE(restored);
  EXPECT_EQ(restored.error().kind(), Error::Kind::kCorruptImage);
}

// A hostile archive: a link out of the root, then a file through it.
TEST_F(TmpfsArchive, StaysInside) {
  if (!run("tar --version >/dev/null 2>&1")) GTEST_SKIP() << "no tar here";
  ASSERT_TRUE(run(format("cd {0} && mkdir evil outside && ln -s {0}/outside evil/way && "
                         "tar -C evil -cf one.tar ./way && rm evil/way && mkdir evil/way && echo x > evil/way/file && "
                         "tar -C evil -rf one.tar ./way/file && gzip one.tar", top_)));
  const Fd file(::open((top_ + "/one.tar.gz").c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(restore(*sys::read_all(file.get())));
  EXPECT_NE(::access((top_ + "/outside/file").c_str(), F_OK), 0);
}

}  // namespace
}  // namespace dormouse::engine
