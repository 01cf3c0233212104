#include "engine/files/socket_options.h"

#include <linux/filter.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <limits>
#include <string>
#include <vector>

#include "base/format.h"
#include "images/schema/sockets.pb.h"
#include "kernel/socket.h"

namespace dormouse::engine {
namespace {

#ifndef SO_BUF_LOCK
constexpr int SO_BUF_LOCK = 72;
#endif

Result<int> number(int fd, int name) { return sys::getsockopt<int>(fd, SOL_SOCKET, name); }
Result<> set_number(int fd, int name, int value) { return sys::setsockopt(fd, SOL_SOCKET, name, value); }

Result<> read_filter(int fd, pb::sk_opts_entry* entry) {
  // Counted in instructions; a zero length asks how many there are.
  const auto count = TRY(sys::getsockopt_raw(fd, SOL_SOCKET, SO_GET_FILTER, nullptr, 0));
  if (count == 0) return {};
  std::vector<::sock_filter> program(count);
  TRY(sys::getsockopt_raw(fd, SOL_SOCKET, SO_GET_FILTER, program.data(), count));
  for (const ::sock_filter& each : program)
    entry->add_so_filter((std::uint64_t{each.code} << 48) | (std::uint64_t{each.jt} << 40) |
                         (std::uint64_t{each.jf} << 32) | each.k);
  return {};
}

Result<> apply_filter(int fd, const pb::sk_opts_entry& entry) {
  if (entry.so_filter_size() == 0) return {};
  if (entry.so_filter_size() > BPF_MAXINSNS)
    return fail(Error::corrupt(format("a socket filter of {} instructions", entry.so_filter_size())));
  std::vector<::sock_filter> program;
  for (const std::uint64_t each : entry.so_filter())
    program.push_back({static_cast<std::uint16_t>(each >> 48), static_cast<std::uint8_t>(each >> 40),
                       static_cast<std::uint8_t>(each >> 32), static_cast<std::uint32_t>(each)});
  const ::sock_fprog all{static_cast<unsigned short>(program.size()), program.data()};
  return sys::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, all);
}

Result<> read_bound_device(int fd, pb::sk_opts_entry* entry) {
  char name[IFNAMSIZ] = {};
  const auto length = TRY(sys::getsockopt_raw(fd, SOL_SOCKET, SO_BINDTODEVICE, name, sizeof name));
  if (length > 0) entry->set_so_bound_dev(std::string(name));
  return {};
}

Result<> read_switches(int fd, int family, pb::sk_opts_entry* entry) {
  entry->set_reuseaddr(TRY(number(fd, SO_REUSEADDR)) != 0);
  // Since Linux 6.12 only sockets of the internet know it.
  if (const auto reuse_port = number(fd, SO_REUSEPORT)) entry->set_so_reuseport(*reuse_port != 0);
  if (family == AF_UNIX || family == AF_NETLINK) {
    entry->set_so_passcred(TRY(number(fd, SO_PASSCRED)) != 0);
    if (const auto passes = number(fd, SO_PASSSEC)) entry->set_so_passsec(*passes != 0);
  }
  entry->set_so_dontroute(TRY(number(fd, SO_DONTROUTE)) != 0);
  entry->set_so_no_check(TRY(number(fd, SO_NO_CHECK)) != 0);
  entry->set_so_broadcast(TRY(number(fd, SO_BROADCAST)) != 0);
  entry->set_so_keepalive(TRY(number(fd, SO_KEEPALIVE)) != 0);
  entry->set_so_oobinline(TRY(number(fd, SO_OOBINLINE)) != 0);
  return {};
}

Result<> set_buffers(int fd, std::uint32_t send_bytes, std::uint32_t receive_bytes) {
  const auto set = [&](int forced, int limited, std::uint32_t bytes) -> Result<> {
    if (bytes > std::numeric_limits<int>::max()) return fail(Error::corrupt(format("a buffer of {} bytes", bytes)));
    const int value = static_cast<int>(bytes);
    const auto done = set_number(fd, forced, value);
    // Without CAP_NET_ADMIN the limits of the node hold.
    if (!done && done.error().is_kernel(EPERM)) return set_number(fd, limited, value);
    return done;
  };
  TRY(set(SO_SNDBUFFORCE, SO_SNDBUF, send_bytes));
  return set(SO_RCVBUFFORCE, SO_RCVBUF, receive_bytes);
}

Result<> apply_switches(int fd, const pb::sk_opts_entry& entry) {
  const auto on = [&](bool wanted, int name) -> Result<> {
    return wanted ? set_number(fd, name, 1) : Result<>{};
  };
  TRY(on(entry.so_passcred(), SO_PASSCRED));
  TRY(on(entry.so_passsec(), SO_PASSSEC));
  TRY(on(entry.so_dontroute(), SO_DONTROUTE));
  TRY(on(entry.so_no_check(), SO_NO_CHECK));
  TRY(on(entry.so_broadcast(), SO_BROADCAST));
  TRY(on(entry.so_oobinline() != 0, SO_OOBINLINE));
  TRY(on(entry.so_keepalive(), SO_KEEPALIVE));
  if (!entry.has_so_linger()) return {};
  return sys::setsockopt(fd, SOL_SOCKET, SO_LINGER, ::linger{1, static_cast<int>(entry.so_linger())});
}

// Images of old versions have them here instead of among the options of TCP.
Result<> apply_old_tcp_options(int fd, const pb::sk_opts_entry& entry) {
  const auto set = [&](int name, std::uint32_t value) {
    return sys::setsockopt(fd, IPPROTO_TCP, name, static_cast<int>(value));
  };
  if (entry.has_tcp_keepcnt()) TRY(set(TCP_KEEPCNT, entry.tcp_keepcnt()));
  if (entry.has_tcp_keepidle()) TRY(set(TCP_KEEPIDLE, entry.tcp_keepidle()));
  if (entry.has_tcp_keepintvl()) TRY(set(TCP_KEEPINTVL, entry.tcp_keepintvl()));
  return {};
}

}  // namespace

Result<> read_socket_options(int fd, int family, pb::sk_opts_entry* entry) {
  entry->set_so_sndbuf(static_cast<std::uint32_t>(TRY(number(fd, SO_SNDBUF))));
  entry->set_so_rcvbuf(static_cast<std::uint32_t>(TRY(number(fd, SO_RCVBUF))));
  // Linux 5.16
  if (const auto locks = number(fd, SO_BUF_LOCK)) entry->set_so_buf_lock(static_cast<std::uint32_t>(*locks));
  entry->set_so_priority(static_cast<std::uint32_t>(TRY(number(fd, SO_PRIORITY))));
  entry->set_so_rcvlowat(static_cast<std::uint32_t>(TRY(number(fd, SO_RCVLOWAT))));
  // Setting it takes a privilege that its default does not need.
  if (const int mark = TRY(number(fd, SO_MARK))) entry->set_so_mark(static_cast<std::uint32_t>(mark));
  const auto send = TRY(sys::getsockopt<::timeval>(fd, SOL_SOCKET, SO_SNDTIMEO));
  const auto receive = TRY(sys::getsockopt<::timeval>(fd, SOL_SOCKET, SO_RCVTIMEO));
  entry->set_so_snd_tmo_sec(static_cast<std::uint64_t>(send.tv_sec));
  entry->set_so_snd_tmo_usec(static_cast<std::uint64_t>(send.tv_usec));
  entry->set_so_rcv_tmo_sec(static_cast<std::uint64_t>(receive.tv_sec));
  entry->set_so_rcv_tmo_usec(static_cast<std::uint64_t>(receive.tv_usec));
  TRY(read_switches(fd, family, entry));
  const auto linger = TRY(sys::getsockopt<::linger>(fd, SOL_SOCKET, SO_LINGER));
  if (linger.l_onoff != 0) entry->set_so_linger(static_cast<std::uint32_t>(linger.l_linger));
  TRY(read_bound_device(fd, entry));
  return read_filter(fd, entry);
}

Result<> apply_socket_options(int fd, const pb::sk_opts_entry& entry) {
  // The kernel doubles what is set.
  TRY(set_buffers(fd, entry.so_sndbuf() / 2, entry.so_rcvbuf() / 2));
  if (entry.has_so_buf_lock()) TRY(sys::setsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, entry.so_buf_lock()));
  if (entry.has_so_priority()) TRY(sys::setsockopt(fd, SOL_SOCKET, SO_PRIORITY, entry.so_priority()));
  if (entry.has_so_rcvlowat()) TRY(sys::setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, entry.so_rcvlowat()));
  if (entry.has_so_mark()) TRY(sys::setsockopt(fd, SOL_SOCKET, SO_MARK, entry.so_mark()));
  TRY(apply_switches(fd, entry));
  TRY(apply_old_tcp_options(fd, entry));
  const ::timeval send{static_cast<time_t>(entry.so_snd_tmo_sec()), static_cast<suseconds_t>(entry.so_snd_tmo_usec())};
  const ::timeval receive{static_cast<time_t>(entry.so_rcv_tmo_sec()), static_cast<suseconds_t>(entry.so_rcv_tmo_usec())};
  TRY(sys::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, send));
  TRY(sys::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, receive));
  if (!entry.so_bound_dev().empty())
    TRY(sys::setsockopt_raw(fd, SOL_SOCKET, SO_BINDTODEVICE, entry.so_bound_dev().data(),
                            static_cast<socklen_t>(entry.so_bound_dev().size())));
  return apply_filter(fd, entry);
}

Result<> enlarge_buffers(int fd) {
  return set_buffers(fd, std::numeric_limits<int>::max() / 2, std::numeric_limits<int>::max() / 2);
}

}  // namespace dormouse::engine
