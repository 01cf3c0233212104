// The runtime's signals while it stands in front of a container.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fd.h"
#include "shim/oci_terminal.h"

namespace dormouse::shim {

// Blocks the signals that people and service managers send, so that they can be read one by one; the
// destructor lets them go again.
class SignalReader {
 public:
  static Result<SignalReader> start();
  SignalReader(SignalReader&& other) noexcept : fd_(std::move(other.fd_)), original_(other.original_) {}
  SignalReader& operator=(SignalReader&&) = delete;
  ~SignalReader();

  int fd() const { return fd_.get(); }  // readable when a signal has come
  // The next one, or 0.
  int next() const;
  // For processes that we fork: the mask that we were started with.
  const sigset_t& original_mask() const { return original_; }
  // Hands every signal on to our child `pid`, and its terminal's characters to and fro, until it ends;
  // reaps it. Answers as a shell would: its exit status, or 128 + N after signal N.
  Result<int> forward_until_end(pid_t pid, Terminal* terminal = nullptr);

 private:
  SignalReader(Fd fd, const sigset_t& original) : fd_(std::move(fd)), original_(original) {}
  Fd fd_;
  sigset_t original_;
};

}  // namespace dormouse::shim
