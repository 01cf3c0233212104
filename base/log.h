// Where log lines go. The library logs at debug level only and returns its failures as values; the
// shim decides on sinks, writes the one line that is the cause of a failure, and owns the format.
#pragma once

#include <mutex>
#include <string_view>
#include <utility>

#include "base/format.h"

namespace dormouse {

enum class LogLevel : unsigned char { kError = 1, kWarn = 2, kInfo = 3, kDebug = 4 };

class Log {
 public:
  Log() = default;
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;
  virtual ~Log() = default;

  bool wants(LogLevel level) const { return level <= threshold_; }

  template <class... Args>
  void debug(fmt::format_string<Args...> text, Args&&... args) {
    emit(LogLevel::kDebug, text, fmt::make_format_args(args...));
  }
  template <class... Args>
  void info(fmt::format_string<Args...> text, Args&&... args) {
    emit(LogLevel::kInfo, text, fmt::make_format_args(args...));
  }
  template <class... Args>
  void warn(fmt::format_string<Args...> text, Args&&... args) {
    emit(LogLevel::kWarn, text, fmt::make_format_args(args...));
  }

  // A finished line without its newline.
  virtual void write(LogLevel level, std::string_view line) = 0;

 protected:
  void set_threshold(LogLevel level) { threshold_ = level; }

 private:
  void emit(LogLevel level, fmt::string_view text, fmt::format_args args) {
    if (!wants(level)) return;
    const std::scoped_lock lock(mutex_);  // several threads of the engine may have something to say
    write(level, fmt::vformat(text, args));
  }
  std::mutex mutex_;
  LogLevel threshold_ = LogLevel::kDebug;
};

// Swallows everything; for tests and callers that do not care.
class NullLog final : public Log {
 public:
  NullLog() { set_threshold(LogLevel::kError); }
  void write(LogLevel, std::string_view) override {}
};

}  // namespace dormouse
