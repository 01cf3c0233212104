#include "engine/files/terminal.h"

#include <gmock/gmock.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>

#include "engine/files/live_table.h"
#include "engine/files/terminal_state.h"
#include "images/schema/terminals.pb.h"

namespace dormouse::engine {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(TerminalDevice, Numbers) {
  EXPECT_EQ(terminal_device(makedev(136, 3))->index, 3u);
  EXPECT_EQ(terminal_device(makedev(137, 3))->index, 259u);
  EXPECT_TRUE(terminal_device(makedev(5, 2))->is_master);
  EXPECT_EQ(terminal_device(makedev(5, 1))->type, pb::CONSOLE);
  EXPECT_EQ(terminal_device(makedev(4, 1))->type, pb::VT);
  EXPECT_FALSE(terminal_device(makedev(1, 3)));
  EXPECT_FALSE(terminal_device(makedev(10, 200)));
}

// With a devpts instance of its own, so that terminal numbers are the test's.
class TerminalTest : public LiveTable {
 protected:
  void SetUp() override {
    pts_ = scratch / "pts";
    ::mkdir(pts_.c_str(), 0755);
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("devpts", pts_.c_str(), "devpts", 0, "newinstance,ptmxmode=0666,mode=0620") != 0)
      GTEST_SKIP() << "needs the right to mount devpts";
  }
  void TearDown() override {
    end();
    ::umount2(pts_.c_str(), MNT_DETACH);
  }
  std::string slave_path(int index = 0) const { return pts_ + "/" + std::to_string(index); }
  int open_master() const {
    const int master = ::open((pts_ + "/ptmx").c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);
    int unlocked = 0;
    ::ioctl(master, TIOCSPTLCK, &unlocked);
    return master;
  }
  // A child whose standard descriptors and session are on the slave, as in a container with a terminal.
  Child& add_session_leader() {
    return add_child([this] {
      ::setsid();
      place(::open(slave_path().c_str(), O_RDWR), 5);
      for (int number = 0; number < 3; ++number) ::dup2(5, number);
      ::close(5);
      ::ioctl(0, TIOCSCTTY, 0);
    });
  }
  std::string pts_;
};

std::string read_now(int fd) {
  std::string text(100, '\0');
  const auto got = sys::read(fd, std::as_writable_bytes(std::span(text)));
  text.resize(got ? *got : 0);
  return text;
}

TEST_F(TerminalTest, PairInTheTree) {
  add_child([this] {
    place(open_master(), 10);
    place(open_master(), 11);
    place(::open(slave_path(1).c_str(), O_RDWR | O_NOCTTY | O_NONBLOCK), 12);
    ::close(10);  // index 0 is free again: restore has to skip it
    ::termios settings{};
    ::tcgetattr(12, &settings);
    ::cfmakeraw(&settings);
    settings.c_cc[VINTR] = 7;
    ::tcsetattr(12, TCSANOW, &settings);
    const ::winsize size{43, 132, 0, 0};
    ::ioctl(11, TIOCSWINSZ, &size);
    ::fchmod(12, 0600);
    int on = 1;
    ::ioctl(11, TIOCPKT, &on);
  });
  ASSERT_TRUE(dump()) << blockers().front();
  end();
  load();
  {
    pb::tty_info_entry info;
    auto infos = must(image_reader(images::kTtyInfo));
    ASSERT_TRUE(must(infos.next(info)));
    ASSERT_EQ(info.termios().c_cc_size(), 19);
    EXPECT_EQ(info.termios().c_cc(0) & 0xff, 7u) << "four control characters to a word, as the format has it";
    EXPECT_GT(info.termios().c_cc(0), 0xffu);
  }
  const int slave = must(reopen(12)), master = must(reopen(11));
  must(restored().refill());
  EXPECT_EQ(must(sys::readlinkat(AT_FDCWD, format("/proc/self/fd/{}", slave))), slave_path(1));
  EXPECT_EQ(must(sys::fstat(slave)).st_mode & 0777, 0600u);
  EXPECT_NE(must(sys::fcntl(slave, F_GETFL)) & O_NONBLOCK, 0);
  ::winsize size{};
  must(sys::ioctl(slave, TIOCGWINSZ, &size));
  EXPECT_EQ(size.ws_col, 132);
  ::termios settings{};
  ASSERT_EQ(::tcgetattr(slave, &settings), 0);
  EXPECT_EQ(settings.c_lflag & (ECHO | ICANON), 0u);
  EXPECT_EQ(settings.c_cc[VINTR], 7);
  must(sys::write_all(slave, std::string_view("up")));
  EXPECT_EQ(read_now(master), std::string("\0up", 3)) << "packet mode";
  must(sys::write_all(master, std::string_view("down")));
  EXPECT_EQ(read_now(slave), "down");
}

TEST_F(TerminalTest, OrphansNeedSomebodyToTakeTheMaster) {
  const Fd master(open_master());
  add_session_leader();
  EXPECT_FALSE(dump());
  EXPECT_THAT(blockers(), ElementsAre(AllOf(HasSubstr("descriptor 0 -> " + slave_path()), HasSubstr("(victim)"),
                                            HasSubstr("other end is outside"), HasSubstr("orphan-pts-master"))));
}

TEST_F(TerminalTest, OrphansGetANewMasterAndStayControllingTerminals) {
  pid_t session = 0;
  {
    const Fd master(open_master());
    Child& child = add_session_leader();
    session = child.pid();
    options.orphan_pts_master = true;
    ASSERT_TRUE(dump()) << blockers().front();
    end();
  }
  load();
  EXPECT_EQ(descriptor(0)->id(), descriptor(2)->id());
  EXPECT_EQ(image.files.at(saved_file(0).tty().regf_id()).reg().name(), slave_path());

  const auto refused = reopen(0);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("orphan-pts-master"));

  restore_options.orphan_pts_master = true;
  std::vector<Fd> masters;
  restore_options.notify = [&](const Notification& notification) -> Result<> {
    EXPECT_EQ(notification.stage, "orphan-pts-master");
    masters.push_back(TRY(sys::duplicate(notification.descriptor)));
    return {};
  };
  const int slave = must(reopen(0));
  ASSERT_EQ(masters.size(), 1u);
  must(sys::write_all(slave, std::string_view("hello")));
  EXPECT_EQ(read_now(masters[0].get()), "hello");

  const auto control = must(restored().controlling_terminal(session));
  ASSERT_TRUE(control);
  EXPECT_EQ(control->foreground_group, session);
  EXPECT_EQ(must(sys::fstat(control->fd)).st_rdev, must(sys::fstat(slave)).st_rdev);
  EXPECT_FALSE(must(restored().controlling_terminal(session + 1)));
}

TEST_F(TerminalTest, ARefusedMasterEndsTheRestore) {
  const Fd master(open_master());
  add_session_leader();
  options.orphan_pts_master = restore_options.orphan_pts_master = true;
  ASSERT_TRUE(dump()) << blockers().front();
  load();
  restore_options.notify = [](const Notification&) -> Result<> { return fail(Error::unsupported("no")); };
  EXPECT_FALSE(reopen(0));
}

TEST_F(TerminalTest, AMasterOfAMountIsUsed) {
  {
    const Fd master(open_master());
    add_session_leader();
    options.orphan_pts_master = restore_options.orphan_pts_master = true;
    ASSERT_TRUE(dump()) << blockers().front();
    end();
  }
  load();
  Fd made(open_master());
  const Fd copy = must(sys::duplicate(made.get()));
  must(restored().adopt_terminal_master(0, std::move(made)));
  restore_options.notify = [](const Notification&) -> Result<> { return {}; };
  must(sys::write_all(must(reopen(0)), std::string_view("x")));
  EXPECT_EQ(read_now(copy.get()), "x");
}

TEST_F(TerminalTest, HungUpTerminalsStayHungUp) {
  add_child([this] {
    ::signal(SIGHUP, SIG_IGN);
    const int master = open_master();
    place(::open(slave_path().c_str(), O_RDWR | O_NOCTTY), 12);
    ::close(master);
  });
  ASSERT_TRUE(dump()) << blockers().front();
  end();
  load();
  const int slave = must(reopen(12));
  must(restored().refill());
  ::winsize size{};
  const auto asked = sys::ioctl(slave, TIOCGWINSZ, &size);
  ASSERT_FALSE(asked);
  EXPECT_TRUE(asked.error().is_kernel(EIO)) << asked.error().message();
}

TEST_F(TerminalTest, ExternalTerminalsAreInherited) {
  const Fd master(open_master());
  const auto st = must(sys::fstatat(AT_FDCWD, slave_path()));
  const std::string key = format("tty[{:x}:{:x}]", st.st_rdev, st.st_dev);
  options.externals = {key};
  add_session_leader();
  ASSERT_TRUE(dump()) << blockers().front();
  end();
  load();
  EXPECT_FALSE(saved_file(0).tty().has_regf_id());
  EXPECT_THAT(reopen(0).error().message(), HasSubstr("--inherit-fd fd[N]:" + key));
  const Fd other(open_master());
  const Fd slave = must(sys::openat(AT_FDCWD, slave_path(1), O_RDWR | O_NOCTTY));
  restore_options.inherited = {{key, slave.get()}};
  must(sys::write_all(must(reopen(0)), std::string_view("x")));
  EXPECT_EQ(read_now(other.get()), "x");
}

}  // namespace
}  // namespace dormouse::engine
