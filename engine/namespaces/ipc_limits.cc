#include "engine/namespaces/ipc_limits.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "base/format.h"
#include "base/text.h"
#include "kernel/file.h"

namespace dormouse::engine {

namespace {

using Entry = pb::ipc_var_entry;

// One file of /proc/sys and the field that keeps its value. The text form serves both ways.
struct Limit {
  std::string_view file;
  void (*set)(Entry&, std::uint64_t);
  std::uint64_t (*get)(const Entry&);
  bool (*has)(const Entry&);
};

#define IPC_LIMIT(file, field)                                                                        \
  Limit {                                                                                             \
    file,                                                                                             \
        [](Entry& entry, std::uint64_t value) {                                                       \
          entry.set_##field(static_cast<decltype(entry.field())>(value));                             \
        },                                                                                            \
        [](const Entry& entry) -> std::uint64_t { return entry.field(); },                            \
        [](const Entry& entry) { return entry.has_##field(); }                                        \
  }
constexpr std::array kLimits{
    IPC_LIMIT("kernel/msgmax", msg_ctlmax),
    IPC_LIMIT("kernel/msgmnb", msg_ctlmnb),
    IPC_LIMIT("kernel/auto_msgmni", auto_msgmni),
    IPC_LIMIT("kernel/msgmni", msg_ctlmni),
    IPC_LIMIT("kernel/shmmax", shm_ctlmax),
    IPC_LIMIT("kernel/shmall", shm_ctlall),
    IPC_LIMIT("kernel/shmmni", shm_ctlmni),
    IPC_LIMIT("kernel/shm_rmid_forced", shm_rmid_forced),
    IPC_LIMIT("fs/mqueue/queues_max", mq_queues_max),
    IPC_LIMIT("fs/mqueue/msg_max", mq_msg_max),
    IPC_LIMIT("fs/mqueue/msgsize_max", mq_msgsize_max),
    IPC_LIMIT("fs/mqueue/msg_default", mq_msg_default),
    IPC_LIMIT("fs/mqueue/msgsize_default", mq_msgsize_default),
    // -1 unless somebody asks for a certain id next; then it is not saved, as it cannot be written.
    IPC_LIMIT("kernel/msg_next_id", msg_next_id),
    IPC_LIMIT("kernel/sem_next_id", sem_next_id),
    IPC_LIMIT("kernel/shm_next_id", shm_next_id),
};
#undef IPC_LIMIT

constexpr std::string_view kSemaphores = "kernel/sem";

Failure not_understood(std::string_view file, std::string_view text) {
  return fail(Error::unsupported(format("cannot understand '{}'", trim(text))).object(format("sysctl {}", file)));
}

// "" if the kernel does not have it.
Result<std::string> read_sysctl(int sysctls, std::string_view file) {
  auto text = sys::read_file(sysctls, std::string(file));
  if (!text && text.error().is_kernel(ENOENT)) return std::string();
  return text;
}

std::string semaphores_text(const Entry& entry) {
  std::string text;
  for (const std::uint32_t value : entry.sem_ctls()) text += format("{}{}", text.empty() ? "" : " ", value);
  return text;
}

bool same_words(std::string_view a, std::string_view b) {
  return split_blanks(trim(a)) == split_blanks(trim(b));
}

[[nodiscard]] Result<> write_sysctl(int sysctls, std::string_view file, const std::string& value, Log& log) {
  const std::string now = TRY(read_sysctl(sysctls, file));
  if (same_words(now, value)) return {};
  const auto written = sys::write_file(sysctls, std::string(file), value);
  if (written) return {};
  // Kernels before 5.19 keep the root of a user namespace from changing these.
  if (now.empty() || written.error().is_kernel(EACCES) || written.error().is_kernel(EPERM)) {
    log.debug("ipc: {} stays {}, {} was saved: {}", file, trim(now), value, written.error().message());
    return {};
  }
  Error error = written.error();
  return fail(std::move(error).object(format("sysctl {}", file)));
}

}  // namespace

Result<Entry> read_ipc_limits() {
  const Fd sysctls = TRY(sys::openat(AT_FDCWD, "/proc/sys", O_PATH | O_DIRECTORY));
  Entry entry;
  const std::string semaphores = TRY(read_sysctl(sysctls.get(), kSemaphores));
  for (const auto word : split_blanks(trim(semaphores))) {
    const auto value = parse_number<std::uint32_t>(word);
    if (!value) return not_understood(kSemaphores, semaphores);
    entry.add_sem_ctls(*value);
  }
  for (const auto& limit : kLimits) {
    const std::string text = TRY(read_sysctl(sysctls.get(), limit.file));
    const bool next_id = limit.file.ends_with("_next_id");
    if (text.empty()) {
      // Required fields of the record.
      if (!next_id && !limit.file.ends_with("_default")) limit.set(entry, 0);
      continue;
    }
    if (next_id && trim(text) == "-1") continue;
    const auto value = parse_number<std::uint64_t>(trim(text));
    if (!value) return not_understood(limit.file, text);
    limit.set(entry, *value);
  }
  return entry;
}

Entry higher_limits(const Entry& one, const Entry& other) {
  Entry higher = one;
  for (const auto& limit : kLimits)
    if (limit.has(other)) limit.set(higher, limit.has(one) ? std::max(limit.get(one), limit.get(other)) : limit.get(other));
  for (int i = 0; i < std::min(one.sem_ctls_size(), other.sem_ctls_size()); ++i)
    higher.set_sem_ctls(i, std::max(one.sem_ctls(i), other.sem_ctls(i)));
  return higher;
}

Result<> write_ipc_limits(const Entry& entry, Log& log) {
  const Fd sysctls = TRY(sys::openat(AT_FDCWD, "/proc/sys", O_PATH | O_DIRECTORY));
  if (entry.sem_ctls_size()) TRY(write_sysctl(sysctls.get(), kSemaphores, semaphores_text(entry), log));
  for (const auto& limit : kLimits)
    if (limit.has(entry))
      TRY(write_sysctl(sysctls.get(), limit.file, format("{}", limit.get(entry)), log));
  return {};
}

}  // namespace dormouse::engine
