#include "engine/files/ghost_file.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "engine/files/live_table.h"

namespace dormouse::engine {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

std::string link_of(int fd) { return must(sys::readlinkat(AT_FDCWD, format("/proc/self/fd/{}", fd))); }

class GhostFileTest : public LiveTable {
 protected:
  // A child that holds `path` as descriptor 5 (and again as 6), after which the path is deleted.
  void hold_and_delete(const std::string& path, int flags) {
    add_child([&] {
      place(::open(path.c_str(), flags), 5);
      place(::open(path.c_str(), O_RDONLY), 6);
      if (::unlink(path.c_str()) != 0) ::rmdir(path.c_str());
    });
  }
};

TEST_F(GhostFileTest, ContentOwnerAndTimesComeBack) {
  const std::string path = scratch / "deleted";
  write_text(path, "still here");
  ::chmod(path.c_str(), 04751);
  hold_and_delete(path, O_RDWR);
  ASSERT_TRUE(dump()) << blockers().front();
  end();
  load();
  EXPECT_EQ(saved_file(5).reg().name(), path) << "without the kernel's mark";
  const int fd = must(reopen(5));
  const int other = must(reopen(6));
  EXPECT_EQ(link_of(fd), path + " (deleted)");
  EXPECT_FALSE(exists(path));
  const auto st = must(sys::fstat(fd));
  EXPECT_EQ(st.st_mode, 0104751u);
  EXPECT_EQ(st.st_ino, must(sys::fstat(other)).st_ino) << "one inode, opened twice";
  must(sys::write_all(fd, std::string_view("STILL")));
  EXPECT_EQ(read_rest(other), "STILL here");
}

TEST_F(GhostFileTest, LargeFilesKeepTheirHoles) {
  const std::string path = scratch / "sparse";
  write_text(path, "begin");
  {
    const Fd file = must(sys::openat(AT_FDCWD, path, O_WRONLY));
    must(sys::pwrite_all(file.get(), std::as_bytes(std::span("end", 3)), 64 << 20));
  }
  hold_and_delete(path, O_RDONLY);
  ASSERT_TRUE(dump()) << blockers().front();
  end();
  load();
  const int fd = must(reopen(5));
  const auto st = must(sys::fstat(fd));
  EXPECT_EQ(st.st_size, (64 << 20) + 3);
  EXPECT_LT(st.st_blocks * 512, 1 << 20);
  std::byte text[5];
  must(sys::pread_exactly(fd, text, 0));
  EXPECT_EQ(std::memcmp(text, "begin", 5), 0);
  must(sys::pread_exactly(fd, std::span(text).first(3), 64 << 20));
  EXPECT_EQ(std::memcmp(text, "end", 3), 0);
}

TEST_F(GhostFileTest, DirectoriesThatAreGoneComeBackForAMoment) {
  const std::string directory = scratch / "a", path = directory + "/b";
  ::mkdir(directory.c_str(), 0755);
  write_text(path, "x");
  add_child([&] {
    place(::open(path.c_str(), O_RDONLY), 5);
    place(::open(directory.c_str(), O_RDONLY | O_DIRECTORY), 6);
    ::unlink(path.c_str());
    ::rmdir(directory.c_str());
  });
  ASSERT_TRUE(dump()) << blockers().front();
  end();
  load();
  EXPECT_EQ(read_rest(must(reopen(5))), "x");
  EXPECT_EQ(link_of(must(reopen(5))), path + " (deleted)");
  EXPECT_TRUE(S_ISDIR(must(sys::fstat(must(reopen(6)))).st_mode));
  EXPECT_FALSE(exists(directory));
}

TEST_F(GhostFileTest, ANewFileUnderTheOldNameIsLeftAlone) {
  const std::string path = scratch / "name";
  write_text(path, "old");
  hold_and_delete(path, O_RDONLY);
  ASSERT_TRUE(dump()) << blockers().front();
  end();
  write_text(path, "new");
  load();
  EXPECT_EQ(read_rest(must(reopen(5))), "old");
  EXPECT_EQ(must(sys::read_file(AT_FDCWD, path)), "new");
}

TEST_F(GhostFileTest, TooLargeIsRefusedWithTheLimitToSet) {
  options.ghost_limit_bytes = 4096;
  const std::string path = scratch / "large";
  write_text(path, std::string(10000, 'x'));
  hold_and_delete(path, O_RDONLY);
  EXPECT_FALSE(dump());
  EXPECT_THAT(blockers(), testing::Each(AllOf(HasSubstr(path), HasSubstr("(victim)"), HasSubstr("4096"),
                                              HasSubstr("--ghost-limit 12288"))));
}

TEST_F(GhostFileTest, AFileWithAnotherNameIsRefused) {
  const std::string path = scratch / "one", other = scratch / "other";
  write_text(path, "linked");
  ::link(path.c_str(), other.c_str());
  add_child([&] {
    place(::open(path.c_str(), O_RDONLY), 5);
    ::unlink(path.c_str());
  });
  EXPECT_FALSE(dump());
  EXPECT_THAT(blockers(), ElementsAre(AllOf(HasSubstr("descriptor 5 -> " + path), HasSubstr("lost its name"),
                                            HasSubstr("--link-remap"))));
}

TEST_F(GhostFileTest, LinkRemapMakesAName) {
  options.link_remap = true;
  const std::string path = scratch / "one", other = scratch / "other";
  write_text(path, "linked");
  ::link(path.c_str(), other.c_str());
  add_child([&] {
    place(::open(path.c_str(), O_RDWR), 5);
    ::unlink(path.c_str());
  });
  ASSERT_TRUE(dump()) << blockers().front();
  saved().keep();
  end();
  load();
  const int fd = must(reopen(5));
  EXPECT_EQ(link_of(fd), path + " (deleted)");
  EXPECT_EQ(must(sys::fstat(fd)).st_ino, must(sys::fstatat(AT_FDCWD, other)).st_ino) << "the very file";
  restored().keep();
  EXPECT_EQ(must(sys::list_directory(scratch.fd())).size(), 1u) << "only the other name is left";
}

TEST_F(GhostFileTest, LinksOfAFailedDumpAreTakenBack) {
  options.link_remap = true;
  write_text(scratch / "one", "linked");
  ::link((scratch / "one").c_str(), (scratch / "other").c_str());
  add_child([&] {
    place(::open((scratch / "one").c_str(), O_RDWR), 5);
    ::unlink((scratch / "one").c_str());
  });
  ASSERT_TRUE(dump()) << blockers().front();
  EXPECT_EQ(must(sys::list_directory(AT_FDCWD, scratch.path())).size(), 2u);
  drop_dump();
  EXPECT_EQ(must(sys::list_directory(AT_FDCWD, scratch.path())).size(), 1u);
}

TEST_F(GhostFileTest, DamagedGhostsAreRefused) {
  const std::string path = scratch / "deleted";
  write_text(path, std::string(20000, 'x'));
  hold_and_delete(path, O_RDONLY);
  ASSERT_TRUE(dump()) << blockers().front();
  end();
  load();
  // The piece after the first record: its offset of 0 becomes one beyond the end.
  const std::string name = image_path("ghost-file-1.img");
  std::string bytes = must(sys::read_file(AT_FDCWD, name));
  const auto at = bytes.find(std::string("\x08\xa0\x9c\x01\x10\x00", 6));
  ASSERT_NE(at, std::string::npos);
  bytes[at + 5] = 1;
  write_text(name, bytes);
  const auto opened = reopen(5);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message(), HasSubstr("does not fit"));
  EXPECT_FALSE(exists(path)) << "nothing is left behind";
}

}  // namespace
}  // namespace dormouse::engine
