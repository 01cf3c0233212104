#include "shim/workplace.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "kernel/file.h"

namespace dormouse::shim {
namespace {

Result<Fd> open_directory(const std::string& path, std::string_view what) {
  if (path.empty()) return fail(Error::bad_option("not given").object(std::string(what)));
  return TRY_OR(sys::openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY),
                std::move(e).object(format("{} {}", what, path)));
}

// Where lines go when there is no file: a duplicate, since the log closes what it has.
Result<Fd> duplicate(int fd) {
  Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!copy) return fail(Error::kernel("duplicate descriptor", errno).object(format("fd {}", fd)));
  return copy;
}

void append_json(std::string& out, std::string_view key, std::string_view value) {
  fmt::format_to(std::back_inserter(out), "\"{}\": \"", key);
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      (out += '\\') += c;
    else if (byte < 0x20 || byte == 0x7f)
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", byte);
    else
      out += c;
  }
  out += '"';
}

}  // namespace

std::vector<Error> Workplace::open(const Settings& settings, bool needs_images) {
  std::vector<Error> errors;
  auto keep = [&errors](Result<Fd> opened) {
    if (opened) return std::move(*opened);
    errors.push_back(std::move(opened).error());
    return Fd();
  };
  const std::string& images_path = settings.images_dir;
  const std::string& work_path = settings.work_dir.empty() ? images_path : settings.work_dir;
  if (needs_images) images = keep(open_directory(images_path, "images directory"));
  // One directory for both is told once when it is missing.
  const bool hopeless = needs_images && !images && work_path == images_path;
  if (!hopeless) work = keep(open_directory(work_path, "work directory"));
  if (work && ::fchdir(work.get()) < 0)
    errors.push_back(
        Error::kernel("change directory", errno).object("work directory " + work_path));

  log.set_verbosity(settings.verbosity);
  if (settings.log_to_stderr) {
    if (Fd fd = keep(duplicate(STDERR_FILENO))) log.use(std::move(fd));
  } else if (settings.log_file == "-") {
    if (Fd fd = keep(duplicate(STDOUT_FILENO))) log.use(std::move(fd));
  } else if (work) {
    report_name = settings.log_file + ".json";
    if (auto opened = log.open(work.get(), settings.log_file); !opened)
      errors.push_back(std::move(opened).error());
  }
  // An old report beside a new log would mislead.
  if (work) (void)sys::unlinkat(work.get(), report_name);
  return errors;
}

std::string failures_as_json(std::string_view operation, std::span<const Error> failures) {
  std::string text = "{";
  append_json(text, "operation", operation);
  text += ", \"failures\": [";
  for (std::size_t i = 0; i < failures.size(); ++i) {
    const Error& error = failures[i];
    text += i ? ",\n  {" : "\n  {";
    append_json(text, "object", error.object());
    append_json(text += ", ", "owner", error.owner());
    append_json(text += ", ", "reason", error.reason());
    append_json(text += ", ", "remedy", error.remedy());
    const char* name = ::strerrorname_np(error.err());
    append_json(text += ", ", "errno", name ? name : "");
    text += '}';
  }
  text += "\n]}\n";
  return text;
}

void Workplace::report(std::string_view operation, std::span<const Error> failures,
                       std::source_location where) {
  for (const Error& error : failures) log.error(error, where);
  if (!work || failures.empty()) return;
  // Best effort: the log has everything that the report has.
  const auto file = sys::openat(work.get(), report_name, O_CREAT | O_TRUNC | O_WRONLY, 0600);
  if (file) (void)sys::write_all(file->get(), failures_as_json(operation, failures));
}

}  // namespace dormouse::shim
