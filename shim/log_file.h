// The log of one operation: what LogFile is given before it knows its file is kept, then everything
// goes there in large writes.
//
// Format, which people and tools grep: from verbosity 3 on "(SS.uuuuuu) text", below it the bare
// text. A failure is one line, "Error (shim/file.cc:NN): text", and nothing else says "Error"; a
// warning begins with "Warn: ".
//
// Processes forked while a LogFile lives share nothing with it but the descriptor: their copies
// never write.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"

namespace dormouse::shim {

// 0 is silent, 1 errors, 2 warnings (the default), 3 information and timestamps, 4 debug.
inline constexpr int kDefaultVerbosity = 2;

class LogFile final : public Log {
 public:
  explicit LogFile(int verbosity = kDefaultVerbosity);
  ~LogFile() override;

  // Also rules the lines that were kept so far.
  void set_verbosity(int verbosity);

  // Empties `path` (relative to `directory`) or creates it, mode 0600. An existing file keeps its
  // inode: container engines create it beforehand, with a security label.
  [[nodiscard]] Result<> open(int directory, const std::string& path);
  // Writes to a descriptor instead: a duplicate of stderr, say.
  void use(Fd fd);
  // -1 until there is a file. Flush before handing it to somebody else.
  int fd() const { return fd_.get(); }

  void write(LogLevel level, std::string_view line) override;
  // The one place that writes "Error". Flushes, for a reader may be waiting for that line.
  void error(const Error& error, std::source_location where = std::source_location::current());
  // The first error line, with its newline and without its timestamp; empty if there was none.
  const std::string& first_error() const { return first_error_; }

  // Version, host and kernel: the head of every log.
  void write_versions();
  // What does not reach the disk is lost: a log that cannot be written fails no operation.
  void flush();

 private:
  struct EarlyLine {
    LogLevel level;
    std::string text;
  };
  void attach(Fd fd);
  void append(LogLevel level, std::string_view line);

  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  const pid_t owner_;
  int verbosity_;
  Fd fd_;
  std::string buffer_;
  std::vector<EarlyLine> early_;
  std::string first_error_;
};

}  // namespace dormouse::shim
