#include "engine/files/open_file.h"

#include <fcntl.h>
#include <sys/vfs.h>

#include "base/format.h"
#include "base/text.h"
#include "kernel/file.h"
#include "kernel/process.h"
#include "kernel/socket.h"

namespace dormouse::engine {
namespace {

// What can be learnt from the duplicate alone.
Result<> examine_duplicate(OpenFile& file) {
  file.stat = TRY(sys::fstat(file.fd.get()));
  file.fs_type = TRY(sys::fstatfs(file.fd.get())).f_type;
  return {};
}

Result<> examine_table_entry(OpenFile& file) {
  const Task& task = *file.task;
  const std::string number = std::to_string(file.number);
  file.link = TRY(sys::readlinkat(task.proc.get(), "fd/" + number));
  file.fd = TRY(sys::pidfd_getfd(task.pidfd.get(), file.number));
  TRY(examine_duplicate(file));
  const std::string fdinfo = TRY(sys::read_file(task.proc.get(), "fdinfo/" + number));
  file.info = TRY(proc::parse_fdinfo(fdinfo));
  file.pos = file.info.position;
  // The kernel shows the descriptor's FD_CLOEXEC among the open file's flags (fs/proc/fd.c).
  file.close_on_exec = (file.info.flags & O_CLOEXEC) != 0;
  file.flags = file.info.flags & ~static_cast<std::uint32_t>(O_CLOEXEC);
  file.mount_id = static_cast<int>(file.info.mount_id);
  if (S_ISSOCK(file.stat.st_mode) && !file.path_only())
    file.socket_family = TRY(sys::getsockopt<int>(file.fd.get(), SOL_SOCKET, SO_DOMAIN));
  if (!file.path_only()) file.owner = TRY(read_owner(file.fd.get()));
  return {};
}

}  // namespace

std::optional<std::uint64_t> OpenFile::number_in_fdinfo(std::string_view key, int base) const {
  const auto text = info.value(key);
  if (!text) return std::nullopt;
  return parse_number<std::uint64_t>(*text, base);
}

std::string OpenFile::object() const {
  if (number < 0) return format("{} -> {}", proc_link, link);
  if (carried) return format("descriptor in a message -> {}", link);
  return link.empty() ? format("descriptor {}", number) : format("descriptor {} -> {}", number, link);
}

Error OpenFile::blocked(std::string reason, std::string remedy) const {
  return failed(Error::unsupported(std::move(reason)).remedy(std::move(remedy)));
}

Error OpenFile::failed(Error error) const {
  return std::move(error).object(object()).owner(task->name());
}

Result<OpenFile> examine_descriptor(const Task& task, int number) {
  OpenFile file;
  file.task = &task;
  file.number = number;
  auto examined = examine_table_entry(file);
  if (!examined) return fail(file.failed(std::move(examined).error()));
  return file;
}

Result<OpenFile> examine_link(const Task& task, const std::string& proc_link, int flags) {
  OpenFile file;
  file.task = &task;
  file.proc_link = proc_link;
  file.flags = static_cast<std::uint32_t>(flags);
  auto examine = [&]() -> Result<> {
    file.link = TRY(sys::readlinkat(task.proc.get(), proc_link));
    // O_PATH: following the link must not open a device or wait on a fifo.
    file.fd = TRY(sys::openat(task.proc.get(), proc_link, O_PATH));
    TRY(examine_duplicate(file));
    file.mount_id = static_cast<int>(TRY(sys::mount_id(file.fd.get())));
    return {};
  };
  auto examined = examine();
  if (!examined) return fail(file.failed(std::move(examined).error()));
  return file;
}

}  // namespace dormouse::engine
