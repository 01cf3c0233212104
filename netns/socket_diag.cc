#include "netns/socket_diag.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sys/socket.h>

#include <cstring>

#include "base/format.h"
#include "kernel/socket.h"

namespace dormouse::netns {
namespace {

// The kernel's answers to a dump fit into this; it looks at the size it is asked with.
constexpr std::size_t kPacketBytes = 64 << 10;

template <class T>
bool load(std::span<const std::byte> bytes, T& into) {
  if (bytes.size() < sizeof into) return false;
  std::memcpy(&into, bytes.data(), sizeof into);
  return true;
}

Error malformed() { return Error::unsupported("the kernel's answer about unix sockets makes no sense"); }

bool take_attribute(unsigned type, std::span<const std::byte> data, UnixSocket& socket) {
  switch (type) {
    case UNIX_DIAG_NAME:
      socket.name.assign(reinterpret_cast<const char*>(data.data()), data.size());
      return true;
    case UNIX_DIAG_PEER:
      return load(data, socket.peer);
    case UNIX_DIAG_SHUTDOWN: {
      std::uint8_t bits = 0;
      if (!load(data, bits)) return false;
      socket.shutdown = bits;
      return true;
    }
    case UNIX_DIAG_ICONS:
      socket.waiting.resize(data.size() / sizeof(std::uint32_t));
      std::memcpy(socket.waiting.data(), data.data(), socket.waiting.size() * sizeof(std::uint32_t));
      return true;
    case UNIX_DIAG_RQLEN: {
      unix_diag_rqlen lengths{};
      if (!load(data, lengths)) return false;
      socket.receive_queue = lengths.udiag_rqueue;
      socket.send_queue = lengths.udiag_wqueue;
      return true;
    }
    default:
      return true;
  }
}

Result<> take_socket(std::span<const std::byte> body, UnixSockets& into) {
  unix_diag_msg head{};
  if (!load(body, head)) return fail(malformed());
  UnixSocket socket;
  socket.inode = head.udiag_ino;
  socket.type = head.udiag_type;
  socket.state = head.udiag_state;
  body = body.subspan(NLMSG_ALIGN(sizeof head));
  rtattr attribute{};
  while (load(body, attribute)) {
    if (attribute.rta_len < sizeof attribute || attribute.rta_len > body.size()) return fail(malformed());
    if (!take_attribute(attribute.rta_type, body.subspan(sizeof attribute, attribute.rta_len - sizeof attribute), socket))
      return fail(malformed());
    body = body.subspan(std::min<std::size_t>(body.size(), RTA_ALIGN(attribute.rta_len)));
  }
  into[socket.inode] = std::move(socket);
  return {};
}

}  // namespace

Result<Fd> open_diag_socket() { return sys::socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG); }

Result<bool> parse_unix_answer(std::span<const std::byte> packet, UnixSockets& into) {
  nlmsghdr head{};
  while (load(packet, head)) {
    if (head.nlmsg_len < sizeof head || head.nlmsg_len > packet.size()) return fail(malformed());
    const auto body = packet.subspan(sizeof head, head.nlmsg_len - sizeof head);
    if (head.nlmsg_type == NLMSG_DONE) return true;
    if (head.nlmsg_type == NLMSG_ERROR) {
      nlmsgerr error{};
      if (!load(body, error)) return fail(malformed());
      return fail(Error::kernel("ask for unix sockets (unix_diag)", -error.error));
    }
    if (head.nlmsg_type == SOCK_DIAG_BY_FAMILY) TRY(take_socket(body, into));
    packet = packet.subspan(std::min<std::size_t>(packet.size(), NLMSG_ALIGN(head.nlmsg_len)));
  }
  return false;
}

Result<UnixSockets> list_unix_sockets(const Fd& diag_socket) {
  struct {
    nlmsghdr head;
    unix_diag_req request;
  } question{};
  question.head.nlmsg_len = sizeof question;
  question.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  question.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  question.request.sdiag_family = AF_UNIX;
  question.request.udiag_states = ~0u;
  question.request.udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_PEER | UDIAG_SHOW_ICONS | UDIAG_SHOW_RQLEN;
  TRY(sys::send_with_fds(diag_socket.get(), std::as_bytes(std::span(&question, 1)), {}));
  UnixSockets found;
  for (;;) {
    const auto packet = TRY(sys::recv_with_fds(diag_socket.get(), kPacketBytes));
    if (packet.bytes.empty()) return fail(malformed());
    if (TRY(parse_unix_answer(packet.bytes, found))) return found;
  }
}

}  // namespace dormouse::netns
