#include "shim/oci_terminal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "kernel/file.h"
#include "shim/oci_signals.h"

namespace dormouse::shim {
namespace {

struct Pty {
  Pty() {
    int m = -1, s = -1;
    EXPECT_EQ(::openpty(&m, &s, nullptr, nullptr, nullptr), 0);
    master = Fd(m);
    slave = Fd(s);
  }
  std::string read(int fd) {
    char text[64] = {};
    const ssize_t got = ::read(fd, text, sizeof text);
    return got > 0 ? std::string(text, static_cast<std::size_t>(got)) : "";
  }
  Fd master, slave;
};

void poll_once(Terminal& terminal) {
  pollfd files[] = {terminal.poll_input(), terminal.poll_master()};
  ASSERT_GE(::poll(files, 2, 1000), 0);
  terminal.copy(files[0], files[1]);
}

TEST(Terminal, CharactersGoBothWays) {
  Pty container, ours;
  auto output = sys::pipe2();
  ASSERT_TRUE(output);
  auto terminal = Terminal::attach(Fd(::dup(container.master.get())), ours.slave.get(), output->write_end.get());
  ASSERT_TRUE(terminal);
  termios raw{};
  ASSERT_EQ(::tcgetattr(container.slave.get(), &raw), 0);
  ::cfmakeraw(&raw);
  ::tcsetattr(container.slave.get(), TCSANOW, &raw);

  ASSERT_EQ(::write(ours.master.get(), "a\x03", 2), 2);  // ours is raw: ^C is a character
  poll_once(*terminal);
  EXPECT_EQ(container.read(container.slave.get()), "a\x03");
  ASSERT_EQ(::write(container.slave.get(), "hello", 5), 5);
  poll_once(*terminal);
  EXPECT_EQ(ours.read(output->read_end.get()), "hello");
}

TEST(Terminal, OursIsAsBeforeAfterwards) {
  Pty container, ours;
  termios before{}, during{}, after{};
  ::tcgetattr(ours.slave.get(), &before);
  {
    auto terminal = Terminal::attach(std::move(container.master), ours.slave.get(), STDOUT_FILENO);
    ASSERT_TRUE(terminal);
    ::tcgetattr(ours.slave.get(), &during);
  }
  ::tcgetattr(ours.slave.get(), &after);
  EXPECT_FALSE(during.c_lflag & ECHO);
  EXPECT_EQ(after.c_lflag, before.c_lflag);
}

TEST(Terminal, TheContainersHasOurSize) {
  Pty container, ours;
  winsize size{40, 100, 0, 0};
  ::ioctl(ours.master.get(), TIOCSWINSZ, &size);
  auto terminal = Terminal::attach(Fd(::dup(container.master.get())), ours.slave.get(), STDOUT_FILENO);
  ASSERT_TRUE(terminal);
  winsize seen{};
  ::ioctl(container.slave.get(), TIOCGWINSZ, &seen);
  EXPECT_EQ(seen.ws_row, 40);
  EXPECT_EQ(seen.ws_col, 100);
}

TEST(Terminal, TheLastWordsAreShown) {
  Pty container;
  auto output = sys::pipe2();
  const Fd nothing(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const pid_t pid = ::fork();
  if (pid == 0) {
    (void)!::write(container.slave.get(), "bye", 3);
    ::_exit(3);
  }
  container.slave.reset();
  auto terminal = Terminal::attach(std::move(container.master), nothing.get(), output->write_end.get());
  auto signals = SignalReader::start();
  ASSERT_TRUE(terminal && signals);
  EXPECT_EQ(signals->forward_until_end(pid, &*terminal).value(), 3);
  EXPECT_EQ(container.read(output->read_end.get()), "bye");
}

}  // namespace
}  // namespace dormouse::shim
