#include "engine/files/terminal_queue.h"

#include <asm/termbits.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/format.h"
#include "kernel/abi.h"
#include "kernel/file.h"
#include "kernel/process.h"

namespace dormouse::engine {
namespace {

// N_TTY_BUF_SIZE less one: what the line discipline holds at most. More may wait before it, and would come in between.
constexpr std::size_t kMost = 4095;

// How the end is set while it is emptied and filled, until this object goes. Each change of ICANON makes one line of all
// that waits. IXON stays: whoever reads a master's packets (TIOCPKT) is told of its changes.
class QuietTerminal {
 public:
  // A master has no settings of its own: its calls are about the other end's.
  QuietTerminal(int fd, bool is_master) : fd_(fd), is_master_(is_master) {}
  QuietTerminal(const QuietTerminal&) = delete;
  QuietTerminal& operator=(const QuietTerminal&) = delete;
  ~QuietTerminal() {
    if (packets_ != 0) (void)sys::ioctl(fd_, TIOCPKT, &packets_);
    if (changed_) (void)sys::ioctl(fd_, TCSETS, &before_);
  }
  [[nodiscard]] Result<> begin() {
    if (is_master_) {
      int off = 0;
      TRY(sys::ioctl(fd_, TIOCGPKT, &packets_));
      if (packets_ != 0) TRY(sys::ioctl(fd_, TIOCPKT, &off));
      return {};
    }
    TRY(sys::ioctl(fd_, TCGETS, &before_));
    return set(has_lines());
  }

  bool has_lines() const { return !is_master_ && (before_.c_lflag & ICANON) != 0; }
  char end_of_input() const { return static_cast<char>(before_.c_cc[VEOF]); }
  bool ends_line(char c) const {
    const auto is = [&](int which) { return before_.c_cc[which] != 0 && c == static_cast<char>(before_.c_cc[which]); };
    return c == '\n' || is(VEOL) || ((before_.c_lflag & IEXTEN) != 0 && is(VEOL2));
  }
  [[nodiscard]] Result<> set(bool lines) {
    struct termios quiet = before_;
    quiet.c_iflag &= ~static_cast<tcflag_t>(IGNBRK | BRKINT | PARMRK | INPCK | ISTRIP | INLCR | IGNCR | ICRNL | IUCLC |
                                            IXOFF | IMAXBEL);
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHOE | ECHOK | ECHONL | ECHOCTL | ECHOPRT | ECHOKE | ISIG | ICANON);
    if (lines) {
      quiet.c_lflag |= ICANON;
      for (const int editing : {VERASE, VKILL, VWERASE, VREPRINT, VLNEXT}) quiet.c_cc[editing] = 0;
    } else {
      quiet.c_cc[VMIN] = quiet.c_cc[VTIME] = 0;
    }
    changed_ = true;
    TRY(sys::ioctl(fd_, TCSETS, &quiet));
    return {};
  }

 private:
  int fd_;
  bool is_master_;
  bool changed_ = false;
  int packets_ = 0;
  struct termios before_ = {};
};

bool can_read(int fd) {
  ::pollfd asked{fd, POLLIN, 0};
  return ::poll(&asked, 1, 0) == 1 && (asked.revents & POLLIN);
}

Result<> type(int fd, std::string_view data) {
  for (const char& c : data) TRY(sys::ioctl(fd, TIOCSTI, const_cast<char*>(&c)));
  return {};
}

// Shared with the process that does it.
struct Peeked {
  int failed = 0;  // errno
  std::size_t size = 0;
  char bytes[2 * kMost];  // each line may have one character more: its end of input

  bool append(std::string_view text) {
    if (text.size() > sizeof bytes - size) return false;
    std::memcpy(bytes + size, text.data(), text.size());
    size += text.size();
    return true;
  }
  std::string_view text() const { return {bytes, size}; }
};

// What can be read without waiting; each line in one piece. False: a failure, with errno, or too much.
bool read_some(int fd, const QuietTerminal& quiet, bool lines, Peeked& to) {
  char buffer[kMost + 1];
  while (can_read(fd)) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0) return errno == EIO;  // the other end is closed
    if (got == 0 && !lines) return true;
    const std::string_view piece(buffer, static_cast<std::size_t>(got));
    if (!to.append(piece)) return false;
    const char end = quiet.end_of_input();
    const bool ended_input = lines && (piece.empty() || !quiet.ends_line(piece.back()));
    if (ended_input && !to.append({&end, 1})) return false;
  }
  return true;
}

Result<> empty_and_fill(int fd, bool is_master, Peeked& to) {
  QuietTerminal quiet(fd, is_master);
  TRY(quiet.begin());
  bool all = read_some(fd, quiet, quiet.has_lines(), to);
  if (all && quiet.has_lines()) {
    // The line that is being typed. Nothing waits when lines come back, so that nothing becomes one.
    TRY(quiet.set(false));
    all = read_some(fd, quiet, false, to);
    TRY(quiet.set(true));
  }
  const Result<> filled = type(fd, to.text());
  if (!all) return fail(Error::kernel("read", errno));
  return filled;
}

}  // namespace

Result<std::string> peek_terminal(int fd, bool is_master) {
  int waiting = 0;
  TRY(sys::ioctl(fd, FIONREAD, &waiting));
  if (static_cast<std::size_t>(waiting) >= kMost)
    return fail(Error::unsupported("more waits to be read than can be taken out and put back")
                    .remedy("let its reader catch up before the checkpoint"));
  struct termios settings{};
  if (!is_master) TRY(sys::ioctl(fd, TCGETS, &settings));
  // Where lines are read, one that is being typed does not count.
  if (waiting == 0 && (settings.c_lflag & ICANON) == 0) return std::string();
  const auto memory = TRY(sys::Mapping::map(-1, sizeof(Peeked), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS));
  Peeked& peeked = *new (memory.data()) Peeked;
  const pid_t child = TRY(sys::clone3({}));
  if (child == 0) {
    sigset_t all;
    ::sigfillset(&all);
    ::sigprocmask(SIG_SETMASK, &all, nullptr);
    const Result<> done = empty_and_fill(fd, is_master, peeked);
    if (!done) peeked.failed = done.error().err();
    ::_exit(0);
  }
  int status = 0;
  while (::waitpid(child, &status, __WALL) < 0 && errno == EINTR) {}
  if (!WIFEXITED(status)) return fail(Error::task_died("the process that looked at the terminal"));
  if (peeked.failed != 0) return fail(Error::kernel("reading what waits there, and putting it back", peeked.failed));
  return std::string(peeked.text());
}

Result<> fill_terminal(int fd, bool is_master, std::string_view data) {
  QuietTerminal quiet(fd, is_master);
  TRY(quiet.begin());
  return type(fd, data);
}

}  // namespace dormouse::engine
