// A container's terminal, shown on ours: what runc does for a container in the foreground.
#pragma once

#include <poll.h>
#include <termios.h>

#include <string>

#include "base/error.h"
#include "base/fd.h"

namespace dormouse::shim {

class Terminal {
 public:
  // `master`: the container's side of it. If `input` is a terminal it becomes raw, so that every key
  // is the container's, until the destructor.
  static Result<Terminal> attach(Fd master, int input, int output);
  Terminal(Terminal&& other) noexcept;
  Terminal& operator=(Terminal&&) = delete;
  ~Terminal();

  // For poll(), two of them; then what has come is copied.
  pollfd poll_input() const;
  pollfd poll_master() const;
  void copy(const pollfd& input, const pollfd& master);
  // What the container wrote before its end.
  void drain();
  // Our size becomes the container's.
  void resize() const;

 private:
  Terminal(Fd master, int input, int output) : master_(std::move(master)), input_(input), output_(output) {}
  bool copy_out();

  Fd master_;            // nothing once the container has closed its side
  int input_, output_;   // an input of -1: at its end
  std::string pending_;  // read from us, not yet taken by the container
  int raw_ = -1;         // the terminal that we made raw
  termios original_{};
};

}  // namespace dormouse::shim
