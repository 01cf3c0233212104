#include "kernel/probes.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/inet_diag.h>
#include <linux/net_namespace.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/un.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "kernel/file.h"
#include "kernel/socket.h"

namespace dormouse::sys::probes {

namespace {

// One netlink question of a fixed part and at most one 32-bit attribute. The answer is the errno the
// kernel gave: 0 if it answered, nothing if the question could not be asked.
template <class Fixed>
std::optional<int> ask_netlink(int protocol, std::uint16_t type, std::uint16_t flags, const Fixed& fixed,
                               std::uint16_t attribute = 0, std::uint32_t value = 0) {
  const auto socket = sys::socket(AF_NETLINK, SOCK_RAW, protocol);
  if (!socket) return std::nullopt;
  struct {
    ::nlmsghdr header;
    alignas(NLMSG_ALIGNTO) Fixed fixed;
    alignas(NLMSG_ALIGNTO) ::nlattr attribute;
    std::uint32_t value;
  } question{};
  const std::size_t without = offsetof(decltype(question), attribute);
  question.header.nlmsg_len = static_cast<std::uint32_t>(attribute ? sizeof question : without);
  question.header.nlmsg_type = type;
  question.header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  question.fixed = fixed;
  question.attribute.nla_len = NLA_HDRLEN + sizeof value;
  question.attribute.nla_type = attribute;
  question.value = value;
  const auto* const raw = reinterpret_cast<const std::byte*>(&question);
  if (!sys::write_all(socket->get(), std::span(raw, question.header.nlmsg_len))) return std::nullopt;

  alignas(::nlmsghdr) std::byte answer[16384];
  const auto got = sys::read(socket->get(), answer);  // the kernel answers within our write
  if (!got || *got < sizeof(::nlmsghdr)) return std::nullopt;
  const auto* const header = reinterpret_cast<const ::nlmsghdr*>(answer);
  if (header->nlmsg_type != NLMSG_ERROR || *got < NLMSG_LENGTH(sizeof(::nlmsgerr))) return 0;
  return -reinterpret_cast<const ::nlmsgerr*>(NLMSG_DATA(header))->error;
}

Result<Fd> datagram_socket(int domain) { return sys::socket(domain, SOCK_DGRAM); }

}  // namespace

bool socket_namespace() {
  const auto socket = datagram_socket(AF_UNIX);
  if (!socket) return false;
  const Fd space(::ioctl(socket->get(), SIOCGSKNS));
  if (!space) return false;
  (void)sys::fcntl(space.get(), F_SETFD, FD_CLOEXEC);
  return true;
}

bool socket_unix_file() {
  // An unbound socket has no file to open; only a kernel that knows the request says so.
  const auto socket = datagram_socket(AF_UNIX);
  if (!socket) return false;
  const auto file = sys::ioctl(socket->get(), SIOCUNIXFILE);
  return !file && file.error().is_kernel(ENOENT);
}

bool socket_buffer_lock() {
  constexpr int kSoBufLock = 72;
  const auto socket = datagram_socket(AF_UNIX);
  return socket && sys::getsockopt<int>(socket->get(), SOL_SOCKET, kSoBufLock);
}

bool ipv6_freebind() {
  constexpr int kIpv6Freebind = 78;
  const auto socket = datagram_socket(AF_INET6);
  return socket && sys::setsockopt(socket->get(), IPPROTO_IPV6, kIpv6Freebind, 1);
}

bool tcp_half_closed() {
  // A real connection over the loopback device, which must be up in our network namespace.
  const auto connected = []() -> Result<bool> {
    const Fd listener = TRY(sys::socket(AF_INET, SOCK_STREAM));
    ::sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const raw = reinterpret_cast<::sockaddr*>(&address);
    if (::bind(listener.get(), raw, size) != 0 || ::listen(listener.get(), 1) != 0 ||
        ::getsockname(listener.get(), raw, &size) != 0)
      return false;
    const Fd client = TRY(sys::socket(AF_INET, SOCK_STREAM));
    if (::connect(client.get(), raw, size) != 0) return false;
    const Fd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!server || ::shutdown(client.get(), SHUT_WR) != 0) return false;
    // Leaving repair mode by closing inside it drops both ends without a trace in TIME_WAIT.
    TRY(sys::setsockopt(client.get(), SOL_TCP, TCP_REPAIR, 1));
    (void)sys::setsockopt(server.get(), SOL_TCP, TCP_REPAIR, 1);
    return true;
  }();
  return connected && *connected;
}

bool net_diag_raw() {
  ::inet_diag_req_v2 request{};
  request.sdiag_family = AF_INET;
  request.sdiag_protocol = IPPROTO_RAW;
  request.idiag_states = ~0u;
  return ask_netlink(NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, request) == 0;
}

bool nsid() {
  const auto space = sys::openat(AT_FDCWD, "/proc/self/ns/net", O_RDONLY);
  if (!space) return false;
  const ::rtgenmsg request{};
  return ask_netlink(NETLINK_ROUTE, RTM_GETNSID, 0, request, NETNSA_FD,
                     static_cast<std::uint32_t>(space->get())) == 0;
}

bool link_nsid() {
  // No namespace has this id: a kernel that understands the attribute says so, others answer the
  // question about the loopback device in our own namespace.
  ::ifinfomsg request{};
  request.ifi_index = 1;
  const auto err =
      ask_netlink(NETLINK_ROUTE, RTM_GETLINK, 0, request, IFLA_TARGET_NETNSID, 0x7ffffffe);
  return err == EINVAL || err == ENONET || err == EPERM;
}

bool new_ifindex() {
  // Link 1 cannot be renumbered by its own number within one namespace: kernels that know the attribute
  // check its range first (ERANGE for a negative one), older ones ignore what they do not know.
  ::ifinfomsg request{};
  request.ifi_index = 1;
  return ask_netlink(NETLINK_ROUTE, RTM_SETLINK, NLM_F_ACK, request, IFLA_NEW_IFINDEX,
                     static_cast<std::uint32_t>(-1)) == ERANGE;
}

bool tun() { return sys::openat(AT_FDCWD, "/dev/net/tun", O_RDWR).has_value(); }
bool tun_namespace() {
  const auto device = sys::openat(AT_FDCWD, "/dev/net/tun", O_RDWR);
  if (!device) return false;
  // Not attached to an interface: EBADFD from a driver that reaches its namespace code, EINVAL or ENOTTY else.
  const auto space = sys::ioctl(device->get(), SIOCGSKNS);
  return space || space.error().is_kernel(EBADFD);
}

bool nftables() {
  const ::nfgenmsg request{AF_INET, NFNETLINK_V0, 0};
  const auto type = static_cast<std::uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE);
  return ask_netlink(NETLINK_NETFILTER, type, NLM_F_DUMP, request) == 0;
}

// Asking for a table would make it (since 5.16 tables come to be in a namespace when they are first asked for);
// this file only says that the module is there.
bool iptables_legacy() { return sys::faccessat(AT_FDCWD, "/proc/self/net/ip_tables_names", F_OK).has_value(); }

}  // namespace dormouse::sys::probes
