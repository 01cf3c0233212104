#include "engine/files/unix_queue.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/format.h"
#include "images/schema/sockets.pb.h"
#include "kernel/file.h"
#include "kernel/socket.h"
#include "kernel/watchdog.h"

namespace dormouse::engine {
namespace {

#ifndef SCM_PIDFD
constexpr int SCM_PIDFD = 0x04;
#endif

Failure failed(std::string_view operation) { return fail(Error::kernel(operation, errno)); }

template <class Call>
ssize_t retry(Call&& call) {
  for (;;) {
    const ssize_t result = call();
    if (result != -1 || errno != EINTR) return result;
  }
}

constexpr std::uint32_t kMaxMessageBytes = 64 << 20;
constexpr std::size_t kControlBytes =
    CMSG_SPACE(sys::kMaxFdsPerMessage * sizeof(int)) + CMSG_SPACE(sizeof(::ucred)) + CMSG_SPACE(512);

// Takes over every descriptor that came, whatever else is wrong.
void take_control(::msghdr& head, QueuedMessage& into) {
  for (::cmsghdr* control = CMSG_FIRSTHDR(&head); control; control = CMSG_NXTHDR(&head, control)) {
    if (control->cmsg_level != SOL_SOCKET) continue;
    const std::size_t size = control->cmsg_len - CMSG_LEN(0);
    if (control->cmsg_type == SCM_RIGHTS) {
      for (std::size_t at = 0; at + sizeof(int) <= size; at += sizeof(int)) {
        int fd;
        std::memcpy(&fd, CMSG_DATA(control) + at, sizeof fd);
        into.descriptors.emplace_back(fd);
      }
    } else if (control->cmsg_type == SCM_PIDFD && size >= sizeof(int)) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(control), sizeof fd);
      const Fd unused(fd);
    } else if (control->cmsg_type == SCM_CREDENTIALS && size >= sizeof(::ucred)) {
      ::ucred from;
      std::memcpy(&from, CMSG_DATA(control), sizeof from);
      into.sender = MessageSender{from.pid, from.uid, from.gid};
    }
  }
}

Result<QueuedMessage> peek_message(int fd, std::size_t size) {
  alignas(::cmsghdr) std::byte control[kControlBytes];
  QueuedMessage message;
  message.bytes.resize(size);
  ::iovec data{message.bytes.data(), size};
  ::msghdr head{};
  head.msg_iov = &data;
  head.msg_iovlen = 1;
  head.msg_control = control;
  head.msg_controllen = sizeof control;
  const ssize_t got =
      retry([&] { return ::recvmsg(fd, &head, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC); });
  if (got == -1) return failed("recvmsg(MSG_PEEK)");
  take_control(head, message);
  if (head.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
    return fail(Error::unsupported("a message in its queue could not be read whole"));
  message.bytes.resize(static_cast<std::size_t>(got));
  return message;
}

// Bytes of a stream up to where descriptors or senders change; the next message of the other types.
Result<std::optional<QueuedMessage>> peek_next(int fd, int type, bool at_end, std::size_t stream_bytes) {
  std::size_t size = stream_bytes;
  if (type != SOCK_STREAM) {
    std::byte none[1];
    const ssize_t told = retry([&] { return ::recv(fd, none, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT); });
    // ENOTCONN: a SOCK_SEQPACKET that is not connected, or listens, has no queue of messages.
    if (told == -1 && (errno == EAGAIN || errno == ENOTCONN)) return std::nullopt;
    if (told == -1) return failed("recv(MSG_PEEK)");
    size = static_cast<std::size_t>(told);
    // An empty message has now been seen, and is not shown a second time.
    if (size == 0) return at_end && type == SOCK_SEQPACKET ? std::nullopt : std::optional(QueuedMessage{});
  }
  if (size == 0) return std::nullopt;
  auto message = peek_message(fd, size);
  if (!message && message.error().is_kernel(EAGAIN)) return std::nullopt;
  if (!message) return fail(std::move(message).error());
  if (type == SOCK_STREAM && message->bytes.empty()) return std::nullopt;
  return std::optional(std::move(*message));
}

constexpr int kNoOffset = -1;

// The socket remembers how far has been looked, which its owner would stumble over. Until this object goes.
class PeekOffset {
 public:
  static Result<PeekOffset> use(int fd) {
    PeekOffset used(fd);
    used.watchdog_ = TRY(sys::Watchdog::start(fd, [](int socket, std::string_view) {
      ::syscall(SYS_setsockopt, socket, SOL_SOCKET, SO_PEEK_OFF, &kNoOffset, sizeof kNoOffset);
    }));
    TRY(sys::setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, 0));
    return used;
  }
  PeekOffset(PeekOffset&& other) noexcept : fd_(std::exchange(other.fd_, -1)), watchdog_(std::move(other.watchdog_)) {}
  ~PeekOffset() {
    if (fd_ != -1) (void)sys::setsockopt(fd_, SOL_SOCKET, SO_PEEK_OFF, kNoOffset);
  }

 private:
  explicit PeekOffset(int fd) : fd_(fd) {}
  int fd_;
  sys::Watchdog watchdog_;
};

bool is_readable(int fd) {
  ::pollfd asked{fd, POLLIN, 0};
  return ::poll(&asked, 1, 0) == 1 && (asked.revents & POLLIN) != 0;
}

// All of it, if one look shows all: nothing waits, or bytes of one sender without descriptors.
Result<std::optional<std::vector<QueuedMessage>>> peek_at_once(int fd, int type) {
  std::vector<QueuedMessage> queue;
  // Not by looking: an empty message is shown once only.
  if (type != SOCK_STREAM) return is_readable(fd) ? std::nullopt : std::optional(std::move(queue));
  int waiting = 0;
  TRY(sys::ioctl(fd, SIOCINQ, &waiting));
  if (waiting == 0) return queue;
  auto message = TRY(peek_next(fd, type, false, static_cast<std::size_t>(waiting)));
  if (!message || message->bytes.size() != static_cast<std::size_t>(waiting) || !message->descriptors.empty())
    return std::nullopt;
  queue.push_back(std::move(*message));
  return queue;
}

}  // namespace

Result<std::vector<QueuedMessage>> peek_queue(int fd, int type, bool at_end) {
  if (TRY(sys::getsockopt<int>(fd, SOL_SOCKET, SO_PEEK_OFF)) != kNoOffset)
    return fail(Error::unsupported("has a peek offset (SO_PEEK_OFF), which images have no place for"));
  if (auto all = TRY(peek_at_once(fd, type))) return std::move(*all);
  int waiting = 0;
  if (type == SOCK_STREAM) TRY(sys::ioctl(fd, SIOCINQ, &waiting));
  const PeekOffset used = TRY(PeekOffset::use(fd));
  std::vector<QueuedMessage> queue;
  for (;;) {
    auto message = TRY(peek_next(fd, type, at_end, static_cast<std::size_t>(waiting)));
    if (!message) return queue;
    queue.push_back(std::move(*message));
  }
}

Result<SavedQueues> load_queues(const images::InputDirectory& in) {
  SavedQueues queues;
  if (!in.exists(images::kSocketQueues)) return queues;
  images::Reader reader = TRY(in.reader(images::kSocketQueues));
  pb::sk_packet_entry entry;
  while (TRY(reader.next(entry))) {
    if (entry.length() > kMaxMessageBytes) return fail(reader.corrupt(format("a message of {} bytes", entry.length())));
    SavedMessage message;
    for (const pb::scm_entry& scm : entry.scm()) {
      if (scm.type() == SCM_RIGHTS && static_cast<std::size_t>(scm.rights_size()) <= sys::kMaxFdsPerMessage) {
        message.files.assign(scm.rights().begin(), scm.rights().end());
      } else if (scm.type() == SCM_CREDENTIALS && scm.rights_size() == 3) {
        message.sender = MessageSender{static_cast<pid_t>(scm.rights(0)), scm.rights(1), scm.rights(2)};
      } else {
        return fail(reader.corrupt(format("control data of type {} with {} values", scm.type(), scm.rights_size())));
      }
    }
    message.bytes = TRY(reader.read_bytes(entry.length()));
    queues[entry.id_for()].push_back(std::move(message));
  }
  return queues;
}

namespace {

template <class T>
void append_control(::msghdr& head, int type, const T* values, std::size_t count) {
  auto* const control = reinterpret_cast<::cmsghdr*>(static_cast<std::byte*>(head.msg_control) + head.msg_controllen);
  control->cmsg_level = SOL_SOCKET;
  control->cmsg_type = type;
  control->cmsg_len = CMSG_LEN(count * sizeof(T));
  std::memcpy(CMSG_DATA(control), values, count * sizeof(T));
  head.msg_controllen += CMSG_SPACE(count * sizeof(T));
}

}  // namespace

Result<> send_message(int fd, const SavedMessage& message, const std::vector<int>& descriptors,
                      const std::optional<MessageSender>& sender) {
  alignas(::cmsghdr) std::byte control[kControlBytes] = {};
  ::iovec data{const_cast<std::byte*>(message.bytes.data()), message.bytes.size()};
  ::msghdr head{};
  head.msg_iov = &data;
  head.msg_iovlen = 1;
  head.msg_control = control;
  if (!descriptors.empty()) append_control(head, SCM_RIGHTS, descriptors.data(), descriptors.size());
  if (sender) {
    const ::ucred from{sender->pid, sender->uid, sender->gid};
    append_control(head, SCM_CREDENTIALS, &from, 1);
  }
  if (head.msg_controllen == 0) head.msg_control = nullptr;
  const ssize_t sent = retry([&] { return ::sendmsg(fd, &head, MSG_DONTWAIT | MSG_NOSIGNAL); });
  if (sent == -1) return failed("sendmsg");
  if (static_cast<std::size_t>(sent) != message.bytes.size())
    return fail(Error::unsupported(format("only {} of {} bytes went into its queue", sent, message.bytes.size())));
  return {};
}

}  // namespace dormouse::engine
