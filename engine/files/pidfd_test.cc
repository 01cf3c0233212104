#include "engine/files/pidfd.h"

#include <gmock/gmock.h>

#include "engine/files/live_table.h"

namespace dormouse::engine {
namespace {

using testing::HasSubstr;

class PidFileTest : public LiveTable {
 protected:
  void dump_and_end() {
    ASSERT_TRUE(dump()) << blockers().front();
    end();
    load();
  }
};

std::string pid_line(int fd) {
  const std::string text = must(sys::read_file(AT_FDCWD, format("/proc/self/fdinfo/{}", fd)));
  const auto at = text.find("\nPid:\t");
  return text.substr(at + 6, text.find('\n', at + 1) - at - 6);
}

void open_gone(int number, int again) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(0);
  place(must(sys::pidfd_open(pid)).release(), number);
  place(must(sys::pidfd_open(pid)).release(), again);
  ::waitpid(pid, nullptr, 0);
}

TEST_F(PidFileTest, ProcessesThatAreGoneStayApart) {
  add_child([] {
    open_gone(5, 6);
    open_gone(7, 8);
  });
  dump_and_end();
  EXPECT_EQ(saved_file(5).pidfd().nspid(), -1);
  const auto inode = [&](int number) { return must(sys::fstat(must(reopen(number)))).st_ino; };
  EXPECT_EQ(pid_line(must(reopen(5))), "-1");
  EXPECT_EQ(inode(5), inode(6));
  EXPECT_EQ(inode(7), inode(8));
  if (saved_file(5).pidfd().ino() != saved_file(7).pidfd().ino()) {
    EXPECT_NE(inode(5), inode(7));
  }
  EXPECT_NE(must(reopen(5)), must(reopen(6)));
}

TEST_F(PidFileTest, ALivingProcessIsFoundByItsNumber) {
  add_child([] { place(must(sys::pidfd_open(::getpid())).release(), 5); });
  dump_and_end();
  restored().set_pid_lookup([](pid_t) { return ::getpid(); });
  EXPECT_EQ(pid_line(must(reopen(5))), std::to_string(::getpid()));
}

TEST_F(PidFileTest, NumbersThatAreNotInTheImageAreCorrupt) {
  add_child([] { place(must(sys::pidfd_open(::getpid())).release(), 5); });
  dump_and_end();
  restored().set_pid_lookup([](pid_t) { return 0; });
  const auto opened = reopen(5);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().kind(), Error::Kind::kCorruptImage);
}

TEST_F(PidFileTest, AProcessOutsideTheTreeIsRefused) {
  add_child([] { place(must(sys::pidfd_open(1)).release(), 5); });
  EXPECT_FALSE(dump());
  EXPECT_THAT(blockers().front(), HasSubstr("is of process 1, which is not among the tasks"));
}

}  // namespace
}  // namespace dormouse::engine
