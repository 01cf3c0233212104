#include "engine/files/file_locks.h"

#include <gmock/gmock.h>
#include <sys/file.h>

#include "engine/files/live_table.h"

namespace dormouse::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;

pb::file_lock_entry lock_of(std::uint32_t flag, std::uint32_t type, std::int64_t start = 0, std::int64_t length = 0) {
  pb::file_lock_entry lock;
  lock.set_flag(flag);
  lock.set_type(type);
  lock.set_pid(7);
  lock.set_fd(3);
  lock.set_start(start);
  lock.set_len(length);
  return lock;
}

TEST(FileLocks, AreStoredAsTheReferenceStoresThem) {
  const auto ranged = lock_to_image({proc::LockKind::kPosix, F_WRLCK, false, 7, "x", 10, 29});
  EXPECT_EQ(ranged.flag(), kPosixLock);
  EXPECT_EQ(ranged.type(), static_cast<std::uint32_t>(F_WRLCK));
  EXPECT_EQ(ranged.start(), 10);
  EXPECT_EQ(ranged.len(), 20);
  const auto lease = lock_to_image({proc::LockKind::kLease, F_UNLCK, true, 7, "x", 0, proc::FileLock::kEnd});
  EXPECT_EQ(lease.flag(), kLease);
  EXPECT_EQ(lease.type(), F_UNLCK | kLeaseBreaking);
  EXPECT_EQ(lease.len(), 0);
}

class CheckLock : public testing::Test {
 protected:
  CheckLock() {
    ImageTask task;
    task.tree.set_pid(7);
    task.core.mutable_tc()->set_task_state(1);
    task.ids.set_files_id(2);
    image_.tasks.push_back(task);
    pb::fdinfo_entry descriptor;
    descriptor.set_fd(3);
    descriptor.set_id(40);
    image_.descriptors[2].push_back(descriptor);
  }
  bool accepts(const pb::file_lock_entry& lock) { return check_lock(lock, image_).has_value(); }
  Image image_;
};

TEST_F(CheckLock, AcceptsWhatMakesSense) {
  EXPECT_TRUE(accepts(lock_of(kPosixLock, F_WRLCK, 10, 20)));
  EXPECT_TRUE(accepts(lock_of(kOfdLock, F_RDLCK, INT64_MAX, 0)));
  EXPECT_TRUE(accepts(lock_of(kLease, F_UNLCK | kLeaseBreaking)));
  EXPECT_EQ(file_of_lock(lock_of(kFlock, F_RDLCK), image_), 40u);
}

TEST_F(CheckLock, RefusesNonsense) {
  EXPECT_FALSE(accepts(lock_of(3, F_WRLCK)));
  EXPECT_FALSE(accepts(lock_of(0, F_WRLCK)));
  EXPECT_FALSE(accepts(lock_of(kPosixLock, F_UNLCK)));
  EXPECT_FALSE(accepts(lock_of(kFlock, F_RDLCK | kLeaseBreaking)));
  EXPECT_FALSE(accepts(lock_of(kLease, F_WRLCK | kLeaseBreaking)));
  EXPECT_FALSE(accepts(lock_of(kPosixLock, F_WRLCK, -1, 1)));
  EXPECT_FALSE(accepts(lock_of(kPosixLock, F_WRLCK, 1, -1)));
  EXPECT_FALSE(accepts(lock_of(kPosixLock, F_WRLCK, 2, INT64_MAX)));
  auto stranger = lock_of(kPosixLock, F_WRLCK);
  stranger.set_pid(8);
  EXPECT_FALSE(accepts(stranger));
  stranger = lock_of(kPosixLock, F_WRLCK);
  stranger.set_fd(4);
  EXPECT_FALSE(accepts(stranger));
}

class LocksDumpTest : public LiveTable {
 protected:
  LocksDumpTest() {
    write_text(scratch / "data", "0123456789");
    options.file_locks = true;
  }
  int open_data(int flags) const { return ::open((scratch / "data").c_str(), flags); }
  static void lock_range(int fd, short type) {
    struct flock range{};
    range.l_type = type;
    range.l_len = 5;
    ::fcntl(fd, F_SETLK, &range);
  }
  std::vector<pb::file_lock_entry> locks() {
    load();
    std::vector<pb::file_lock_entry> all;
    auto reader = must(image_reader(images::kFileLocks));
    pb::file_lock_entry lock;
    while (must(reader.next(lock))) all.push_back(lock);
    return all;
  }
};

TEST_F(LocksDumpTest, ALockOfATableIsOneHoweverManyDescriptorsShowIt) {
  add_child([&] {
    place(open_data(O_RDONLY), 5);
    place(open_data(O_RDWR), 6);
    ::dup2(6, 7);
    lock_range(7, F_WRLCK);
  });
  ASSERT_TRUE(dump());
  const auto all = locks();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].fd(), 6);
  EXPECT_EQ(all[0].pid(), task().ns_pid);
  EXPECT_EQ(all[0].len(), 5);
}

TEST_F(LocksDumpTest, ALockOfAnOpenFileIsOneInWhicheverTablesItIs) {
  add_child([&] {
    place(open_data(O_RDONLY), 5);
    ::dup2(5, 6);
    ::flock(6, LOCK_SH);
    place(open_data(O_RDONLY), 7);
    ::flock(7, LOCK_SH);
  });
  ASSERT_TRUE(dump());
  EXPECT_EQ(locks().size(), 2u);
}

TEST_F(LocksDumpTest, WithoutTheOptionTheyAreRefused) {
  options.file_locks = false;
  add_child([&] {
    place(open_data(O_RDONLY), 5);
    ::flock(5, LOCK_SH);
  });
  EXPECT_FALSE(dump());
  EXPECT_THAT(blockers().front(), AllOf(HasSubstr("descriptor 5 -> "), HasSubstr("--file-locks")));
}

// The test itself has set it through the open file that the child has too: it is no lock of the child.
TEST_F(LocksDumpTest, ALockOfAnOutsiderStaysWithIt) {
  const Fd mine = must(sys::openat(AT_FDCWD, scratch / "data", O_RDWR));
  lock_range(mine.get(), F_WRLCK);
  const int high = ::fcntl(mine.get(), F_DUPFD, 950);
  options.file_locks = false;
  add_child([&] {
    const Fd parent = must(sys::pidfd_open(::getppid()));
    ::dup2(must(sys::pidfd_getfd(parent.get(), high)).get(), 5);
  });
  ::close(high);
  EXPECT_TRUE(dump());
}

TEST_F(LocksDumpTest, ALockWhoseSetterIsGoneIsOfWhoHasTheTable) {
  add_child([&] {
    place(open_data(O_RDWR), 5);
    abi::CloneArgs args;
    args.flags = CLONE_FILES;
    args.exit_signal = SIGCHLD;
    const auto other = sys::clone3(args);
    if (*other == 0) {
      lock_range(5, F_WRLCK);
      ::_exit(0);
    }
    ::waitpid(*other, nullptr, 0);
  });
  ASSERT_TRUE(dump());
  const auto all = locks();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].pid(), task().ns_pid);
}

TEST_F(LocksDumpTest, ALeaseSurvivesTheDump) {
  Child* const holder = &add_child([&] {
    place(open_data(O_RDWR), 5);
    if (::fcntl(5, F_SETLEASE, F_WRLCK) != 0) ::close(5);
  });
  ASSERT_TRUE(dump());
  load();
  if (descriptor(5) == nullptr) GTEST_SKIP() << "this file system has no leases";
  const Fd pidfd = must(sys::pidfd_open(holder->pid()));
  EXPECT_EQ(must(sys::fcntl(must(sys::pidfd_getfd(pidfd.get(), 5)).get(), F_GETLEASE)), F_WRLCK);
}

TEST(AppendLock, SetsEachKindByItsOwnCall) {
  parasite::Program program;
  append_lock(program, lock_of(kFlock, F_WRLCK), "/f", 0, true);
  append_lock(program, lock_of(kPosixLock, F_RDLCK, 10, 20), "/f", 0, true);
  append_lock(program, lock_of(kLease, F_UNLCK | kLeaseBreaking), "/f", 5, false);
  const std::string text = program.print();
  EXPECT_THAT(text, AllOf(HasSubstr("flock(3, 6)"), HasSubstr("fcntl(3, 6, data+0x0)"), HasSubstr("setfsuid(5)"),
                          HasSubstr("fcntl(3, 1024)")));
  EXPECT_THAT(program.label(1), HasSubstr("of bytes 10 to 29 on /f with descriptor 3"));
}

}  // namespace
}  // namespace dormouse::engine
