#include "shim/oci_terminal.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "kernel/file.h"

namespace dormouse::shim {

Result<Terminal> Terminal::attach(Fd master, int input, int output) {
  // A container that does not read must not keep us from its output.
  const int flags = TRY(sys::fcntl(master.get(), F_GETFL));
  TRY(sys::fcntl(master.get(), F_SETFL, flags | O_NONBLOCK));
  Terminal terminal(std::move(master), input, output);
  termios mode{};
  if (::tcgetattr(input, &mode) == 0) {
    terminal.original_ = mode;
    terminal.raw_ = input;
    ::cfmakeraw(&mode);
    if (::tcsetattr(input, TCSANOW, &mode) < 0) return fail(Error::kernel("tcsetattr", errno).object("our terminal"));
    terminal.resize();
  }
  return terminal;
}

Terminal::Terminal(Terminal&& other) noexcept
    : master_(std::move(other.master_)), input_(other.input_), output_(other.output_),
      pending_(std::move(other.pending_)), raw_(std::exchange(other.raw_, -1)), original_(other.original_) {}

Terminal::~Terminal() {
  if (raw_ >= 0) ::tcsetattr(raw_, TCSANOW, &original_);
}

pollfd Terminal::poll_input() const { return {pending_.empty() && master_ ? input_ : -1, POLLIN, 0}; }

pollfd Terminal::poll_master() const {
  return {master_.get(), static_cast<short>(POLLIN | (pending_.empty() ? 0 : POLLOUT)), 0};
}

// False when there is nothing to read (any more).
bool Terminal::copy_out() {
  std::array<char, 4096> buffer;
  const ssize_t got = ::read(master_.get(), buffer.data(), buffer.size());
  if (got <= 0) {
    // EIO: nobody has the other side open.
    if (got == 0 || (errno != EAGAIN && errno != EINTR)) master_.reset();
    return false;
  }
  (void)sys::write_all(output_, std::string_view(buffer.data(), static_cast<std::size_t>(got)));
  return true;
}

void Terminal::copy(const pollfd& input, const pollfd& master) {
  if (input.revents) {
    std::array<char, 4096> buffer;
    const ssize_t got = ::read(input_, buffer.data(), buffer.size());
    if (got > 0)
      pending_.assign(buffer.data(), static_cast<std::size_t>(got));
    else if (got == 0 || (errno != EINTR && errno != EAGAIN))
      input_ = -1;
  }
  if (!pending_.empty() && master_) {
    const ssize_t put = ::write(master_.get(), pending_.data(), pending_.size());
    if (put > 0) pending_.erase(0, static_cast<std::size_t>(put));
  }
  if (master.revents & (POLLIN | POLLHUP | POLLERR)) copy_out();
}

void Terminal::drain() {
  while (master_ && copy_out()) {
  }
}

void Terminal::resize() const {
  winsize size{};
  if (::ioctl(input_, TIOCGWINSZ, &size) == 0) (void)::ioctl(master_.get(), TIOCSWINSZ, &size);
}

}  // namespace dormouse::shim
