#include "engine/files/regular_file.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "engine/files/live_table.h"
#include "kernel/mount_api.h"

namespace dormouse::engine {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

void open_at(const std::string& path, int flags, int number) { place(::open(path.c_str(), flags), number); }

class RegularFileTest : public LiveTable {
 protected:
  // Dumps a child that holds `flags` on a scratch file with the given content as descriptor 5.
  void dump_open_file(const std::string& content, int flags, off_t position = 0) {
    path_ = scratch / "file";
    write_text(path_, content);
    add_child([&] {
      open_at(path_, flags, 5);
      ::lseek(5, position, SEEK_SET);
    });
    ASSERT_TRUE(dump()) << blockers().front();
    end();
    load();
  }
  std::string path_;
};

TEST_F(RegularFileTest, PositionComesBack) {
  dump_open_file("hello, world", O_RDONLY, 7);
  const int fd = must(reopen(5));
  EXPECT_EQ(read_rest(fd), "world");
  EXPECT_EQ(saved_file(5).reg().name(), path_);
  EXPECT_EQ(saved_file(5).reg().size(), 12u);
  EXPECT_EQ(saved_file(5).reg().mode(), 0100644u);
  EXPECT_FALSE(saved_file(5).reg().has_mnt_id()) << "only of container's own mounts";
}

TEST_F(RegularFileTest, FlagsComeBack) {
  dump_open_file("", O_WRONLY | O_APPEND | O_NONBLOCK);
  EXPECT_FALSE(saved_file(5).reg().has_size()) << "a log may grow";
  const int flags = must(sys::fcntl(must(reopen(5)), F_GETFL));
  EXPECT_EQ(flags & (O_ACCMODE | O_APPEND | O_NONBLOCK), O_WRONLY | O_APPEND | O_NONBLOCK);
}

TEST_F(RegularFileTest, OneOpenFileForDuplicatesAndAnotherForAnotherOpening) {
  path_ = scratch / "file";
  write_text(path_, "0123456789");
  add_child([&] {
    open_at(path_, O_RDONLY, 5);
    ::dup3(5, 6, O_CLOEXEC);
    open_at(path_, O_RDONLY, 7);
  });
  ASSERT_TRUE(dump());
  end();
  load();
  EXPECT_EQ(descriptor(5)->id(), descriptor(6)->id());
  EXPECT_NE(descriptor(5)->id(), descriptor(7)->id());
  EXPECT_EQ(descriptor(5)->flags(), 0u);
  EXPECT_EQ(descriptor(6)->flags(), static_cast<unsigned>(FD_CLOEXEC));
  EXPECT_EQ(must(reopen(5)), must(reopen(6)));
  must(sys::lseek(must(reopen(5)), 4, SEEK_SET));
  EXPECT_EQ(must(sys::lseek(must(reopen(7)), 0, SEEK_CUR)), 0u);
}

TEST_F(RegularFileTest, TasksShareOpenFiles) {
  path_ = scratch / "file";
  write_text(path_, "0123456789");
  const Fd shared = must(sys::openat(AT_FDCWD, path_, O_RDONLY));
  const int child_number = 5;
  const int inherited = ::fcntl(shared.get(), F_DUPFD, 950);
  for (int i = 0; i < 3; ++i)
    add_child([&] {
      // close_range() of the set-up took what was above; /proc has it back while the test lives.
      const Fd parent = must(sys::pidfd_open(::getppid()));
      const Fd copy = must(sys::pidfd_getfd(parent.get(), inherited));
      ::dup2(copy.get(), child_number);
    });
  ::close(inherited);
  ASSERT_TRUE(dump()) << blockers().front();
  load();
  EXPECT_EQ(descriptor(5, 1)->id(), descriptor(5, 2)->id());
  EXPECT_EQ(descriptor(5, 1)->id(), descriptor(5, 3)->id());
  EXPECT_NE(descriptor(0, 1)->id(), descriptor(0, 2)->id()) << "each opened its own /dev/null";
}

TEST_F(RegularFileTest, DevicesAndDirectories) {
  add_child([&] {
    open_at("/dev/zero", O_RDONLY, 5);
    open_at(scratch.path(), O_RDONLY | O_DIRECTORY, 6);
    open_at("/dev/null", O_PATH, 7);
  });
  ASSERT_TRUE(dump()) << blockers().front();
  load();
  std::byte bytes[4] = {std::byte{1}};
  must(sys::read_exactly(must(reopen(5)), bytes));
  EXPECT_EQ(bytes[0], std::byte{0});
  EXPECT_EQ(must(sys::fstat(must(reopen(6)))).st_ino, must(sys::fstat(scratch.fd())).st_ino);
  EXPECT_NE(must(sys::fcntl(must(reopen(7)), F_GETFL)) & O_PATH, 0);
}

TEST_F(RegularFileTest, SignalOwnerComesBack) {
  path_ = scratch / "file";
  write_text(path_, "");
  add_child([&] {
    open_at(path_, O_RDWR, 5);
    ::fcntl(5, F_SETOWN, ::getpid());
    ::fcntl(5, F_SETSIG, SIGUSR2);
  });
  ASSERT_TRUE(dump()) << blockers().front();
  load();
  const auto& owner = saved_file(5).reg().fown();
  EXPECT_EQ(owner.pid(), static_cast<unsigned>(task().ns_pid));
  EXPECT_EQ(owner.signum(), static_cast<unsigned>(SIGUSR2));
  EXPECT_EQ(owner.uid(), ::getuid());

  const auto without_lookup = reopen(5);
  ASSERT_FALSE(without_lookup);
  EXPECT_THAT(without_lookup.error().message(), HasSubstr("not in the image"));
  restored().set_pid_lookup([](pid_t) { return ::getpid(); });
  const int fd = must(reopen(5));
  EXPECT_EQ(must(sys::fcntl(fd, F_GETOWN)), ::getpid());
  EXPECT_EQ(must(sys::fcntl(fd, F_GETSIG)), SIGUSR2);
}

TEST_F(RegularFileTest, ChangedFilesAreRefused) {
  dump_open_file("0123456789", O_RDONLY);
  write_text(path_, "shorter");
  const auto opened = reopen(5);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message(), AllOf(HasSubstr(path_), HasSubstr("it has 7 bytes, but had 10")));
}

TEST_F(RegularFileTest, ChangedModeIsRefusedUnlessAsked) {
  dump_open_file("0123456789", O_RDONLY);
  ::chmod(path_.c_str(), 0600);
  const auto opened = reopen(5);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message(),
              AllOf(HasSubstr("0100600"), HasSubstr("0100644"), HasSubstr("--skip-file-rwx-check")));
  restore_options.skip_file_rwx_check = true;
  EXPECT_TRUE(reopen(5));
}

TEST_F(RegularFileTest, AFifoInThePlaceOfAFileDoesNotBlock) {
  dump_open_file("", O_RDONLY);
  ::unlink(path_.c_str());
  ::mkfifo(path_.c_str(), 0644);
  EXPECT_FALSE(reopen(5));
}

TEST_F(RegularFileTest, InheritedDescriptorReplacesThePath) {
  dump_open_file("old", O_RDONLY);
  write_text(scratch / "other", "new");
  const Fd other = must(sys::openat(AT_FDCWD, scratch / "other", O_RDONLY));
  restore_options.inherited = {{path_.substr(1), other.get()}};
  EXPECT_EQ(read_rest(must(reopen(5))), "new");
}

TEST_F(RegularFileTest, ExternalFilesNeedADescriptor) {
  path_ = scratch / "file";
  write_text(path_, "abc");
  const Fd file = must(sys::openat(AT_FDCWD, path_, O_RDONLY));
  const std::string key =
      format("file[{:x}:{:x}]", must(sys::mount_id(file.get())), must(sys::fstat(file.get())).st_ino);
  options.externals = {key};
  add_child([&] { open_at(path_, O_RDONLY, 5); });
  ASSERT_TRUE(dump()) << blockers().front();
  load();
  EXPECT_TRUE(saved_file(5).reg().ext());
  const auto opened = reopen(5);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message(), HasSubstr("--inherit-fd fd[N]:" + key));
  restore_options.inherited = {{key, file.get()}};
  EXPECT_EQ(read_rest(must(reopen(5))), "abc");
}

TEST_F(RegularFileTest, FilesOutsideTheMountsAreRefused) {
  // On a file system that is mounted nowhere.
  const auto context = sys::fsopen("tmpfs");
  if (!context) GTEST_SKIP() << "mounting needs privileges";
  must(sys::fsconfig_create(context->get()));
  const Fd mount = must(sys::fsmount(context->get()));
  const Fd file = must(sys::openat(mount.get(), "outside", O_RDWR | O_CREAT, 0600));
  const int high = ::fcntl(file.get(), F_DUPFD, 950);
  add_child([&] {
    const Fd parent = must(sys::pidfd_open(::getppid()));
    ::dup2(must(sys::pidfd_getfd(parent.get(), high)).get(), 5);
  });
  ::close(high);
  EXPECT_FALSE(dump());
  EXPECT_THAT(blockers(), ElementsAre(AllOf(HasSubstr("descriptor 5 -> /outside"), HasSubstr("(victim)"), HasSubstr("mount"))));
}

class SavePathTest : public LiveTable {
 protected:
  void before_finish() override {
    exe_ = must(saved().save_path(task(), "exe", O_RDONLY));
    exe_again_ = must(saved().save_path(task(), "exe", O_RDONLY));
    cwd_ = must(saved().save_path(task(), "cwd", O_RDONLY));
  }
  std::uint32_t exe_ = 0, exe_again_ = 0, cwd_ = 0;
};

TEST_F(SavePathTest, ProgramsAndDirectories) {
  add_child([&] { ::chdir(scratch.path().c_str()); });
  ASSERT_TRUE(dump()) << blockers().front();
  load();
  EXPECT_EQ(exe_, exe_again_);
  EXPECT_EQ(image.files.at(cwd_).reg().name(), scratch.path());
  EXPECT_GT(image.files.at(exe_).reg().build_id_size(), 0) << "of this test program";
  const Fd program = must(restored().open_as(exe_, O_RDONLY));
  EXPECT_EQ(must(sys::fstat(program.get())).st_ino, must(sys::fstatat(AT_FDCWD, "/proc/self/exe")).st_ino);
}

}  // namespace
}  // namespace dormouse::engine
