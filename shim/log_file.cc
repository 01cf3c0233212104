#include "shim/log_file.h"

#include <fcntl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "shim/version.h"

namespace dormouse::shim {
namespace {

// A debug log of a container is some hundred KiB: a handful of writes.
constexpr std::size_t kBufferBytes = 64u << 10;
constexpr int kTimestampVerbosity = 3;

// The repository's name of a source file, whichever way the compiler was given it: folder and file.
std::string_view source_name(std::string_view file) {
  const auto slash = file.rfind('/');
  if (slash == std::string_view::npos || slash == 0) return file;
  const auto before = file.rfind('/', slash - 1);
  return before == std::string_view::npos ? file : file.substr(before + 1);
}

}  // namespace

LogFile::LogFile(int verbosity) : owner_(::getpid()) {
  set_verbosity(verbosity);
}

LogFile::~LogFile() {
  flush();
}

void LogFile::set_verbosity(int verbosity) {
  verbosity_ = std::clamp(verbosity, 0, 4);
  // Without a file everything is kept: the verbosity may still rise.
  set_threshold(fd_ ? static_cast<LogLevel>(verbosity_) : LogLevel::kDebug);
}

Result<> LogFile::open(int directory, const std::string& path) {
  // O_APPEND: action scripts write to the same file through their own stdout.
  Fd fd(
      ::openat(directory, path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_APPEND | O_CLOEXEC, 0600));
  if (!fd) return fail(Error::kernel("open for writing", errno).object("log file " + path));
  attach(std::move(fd));
  return {};
}

void LogFile::use(Fd fd) {
  attach(std::move(fd));
}

void LogFile::attach(Fd fd) {
  flush();
  fd_ = std::move(fd);
  set_verbosity(verbosity_);
  write_versions();
  for (const EarlyLine& line : early_)
    if (wants(line.level)) append(line.level, line.text);
  early_.clear();
  if (!first_error_.empty()) flush();
}

void LogFile::write(LogLevel level, std::string_view line) {
  if (!fd_) {
    early_.push_back({level, std::string(line)});
    return;
  }
  if (wants(level)) append(level, line);
}

void LogFile::append(LogLevel level, std::string_view line) {
  if (buffer_.size() + line.size() > kBufferBytes) flush();
  if (verbosity_ >= kTimestampVerbosity) {
    const auto age = std::chrono::duration_cast<std::chrono::microseconds>(
        std::chrono::steady_clock::now() - start_);
    fmt::format_to(std::back_inserter(buffer_), "({:02}.{:06}) ", age.count() / 1'000'000,
                   age.count() % 1'000'000);
  }
  // Names of tasks and files are not ours: a newline in one must not start a line of its own.
  const auto begin = buffer_.size();
  if (level == LogLevel::kWarn) buffer_ += "Warn: ";  // tools look for it
  buffer_ += line;
  std::replace(buffer_.begin() + static_cast<std::ptrdiff_t>(begin), buffer_.end(), '\n', ' ');
  buffer_ += '\n';
}

void LogFile::error(const Error& error, std::source_location where) {
  const std::string line =
      format("Error ({}:{}): {}", source_name(where.file_name()), where.line(), error.message());
  if (first_error_.empty()) first_error_ = line + '\n';
  write(LogLevel::kError, line);
  flush();
}

void LogFile::write_versions() {
  info("Version: {} (Dormouse {})", kReferenceVersion, kDormouseVersion);
  utsname host{};
  if (::uname(&host) == 0)
    info("Running on {} {} {} {} {}", host.nodename, host.sysname, host.release, host.version,
         host.machine);
}

void LogFile::flush() {
  if (::getpid() != owner_) return;
  std::string_view rest = buffer_;
  while (fd_ && !rest.empty()) {
    const ssize_t written = ::write(fd_.get(), rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) break;
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  buffer_.clear();
}

}  // namespace dormouse::shim
