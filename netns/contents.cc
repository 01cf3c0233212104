#include "netns/contents.h"

#include <linux/fib_rules.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/cache.h>
#include <netlink/errno.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/route.h>
#include <netlink/route/rule.h>
#include <netlink/socket.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <string_view>

#include "base/format.h"
#include "kernel/file.h"

namespace dormouse::netns {

namespace {

struct CloseSocket {
  void operator()(nl_sock* socket) const { ::nl_socket_free(socket); }
};
struct FreeCache {
  void operator()(nl_cache* cache) const { ::nl_cache_free(cache); }
};
using Socket = std::unique_ptr<nl_sock, CloseSocket>;
using Cache = std::unique_ptr<nl_cache, FreeCache>;

Failure failed(std::string_view operation, int code) {
  return fail(Error::unsupported(format("{}: {}", operation, ::nl_geterror(code))));
}

// The library closes what it is given, so it gets a duplicate.
Result<Socket> adopt(const Fd& route_socket) {
  Socket socket(::nl_socket_alloc());
  if (!socket) return fail(Error::kernel("nl_socket_alloc", ENOMEM));
  Fd own = TRY(sys::duplicate(route_socket.get()));
  if (const int code = ::nl_socket_set_fd(socket.get(), NETLINK_ROUTE, own.get()); code < 0)
    return failed("netlink socket", code);
  (void)own.release();
  return socket;
}

Loopback loopback_of(rtnl_link* link) {
  return {static_cast<std::uint32_t>(::rtnl_link_get_ifindex(link)), ::rtnl_link_get_flags(link),
          ::rtnl_link_get_mtu(link)};
}

template <class Object, class Visit>
void for_each(const Cache& cache, Visit visit) {
  for (nl_object* object = ::nl_cache_get_first(cache.get()); object; object = ::nl_cache_get_next(object))
    visit(reinterpret_cast<Object*>(object));
}

// Made by their modules in every namespace, down, for packets that no other tunnel wants.
bool is_fallback_device(std::string_view name) {
  static constexpr std::array<std::string_view, 9> kNames{
      "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip6gre0", "ip_vti0", "ip6_vti0"};
  return std::ranges::find(kNames, name) != kNames.end();
}

class Look {
 public:
  explicit Look(nl_sock* socket) : socket_(socket) {}

  Result<Contents> run() {
    TRY(links());
    TRY(addresses());
    TRY(routes());
    TRY(rules());
    return std::move(contents_);
  }

 private:
  template <class Request>
  Result<Cache> ask(std::string_view what, Request request) {
    nl_cache* cache = nullptr;
    if (const int code = request(&cache); code < 0) return failed(what, code);
    return Cache(cache);
  }
  void extra(std::string text) { contents_.extras.push_back(std::move(text)); }
  std::string_view name_of(int index) const {
    const auto found = names_.find(index);
    return found == names_.end() ? std::string_view("?") : std::string_view(found->second);
  }

  [[nodiscard]] Result<> links() {
    const Cache cache = TRY(ask("list links", [&](nl_cache** to) {
      return ::rtnl_link_alloc_cache(socket_, AF_UNSPEC, to);
    }));
    for_each<rtnl_link>(cache, [&](rtnl_link* link) {
      const std::string name = ::rtnl_link_get_name(link);
      const unsigned flags = ::rtnl_link_get_flags(link);
      names_[::rtnl_link_get_ifindex(link)] = name;
      if (flags & IFF_LOOPBACK) {
        contents_.loopback = loopback_of(link);
      } else if (!is_fallback_device(name) || (flags & IFF_UP)) {
        const char* const type = ::rtnl_link_get_type(link);
        extra(format("link {} ({})", name, type ? type : "device"));
      }
    });
    return {};
  }

  [[nodiscard]] Result<> addresses() {
    const Cache cache =
        TRY(ask("list addresses", [&](nl_cache** to) { return ::rtnl_addr_alloc_cache(socket_, to); }));
    for_each<rtnl_addr>(cache, [&](rtnl_addr* address) {
      char text[128];
      ::nl_addr2str(::rtnl_addr_get_local(address), text, sizeof text);
      // nl_addr2str leaves out a full prefix: "::1" is ::1/128.
      const bool own = std::string_view(text) == "127.0.0.1/8" || std::string_view(text) == "::1";
      const int index = ::rtnl_addr_get_ifindex(address);
      if (!own || index != static_cast<int>(contents_.loopback.index))
        extra(format("address {} on {}", text, name_of(index)));
    });
    return {};
  }

  [[nodiscard]] Result<> routes() {
    const Cache cache = TRY(ask("list routes", [&](nl_cache** to) {
      return ::rtnl_route_alloc_cache(socket_, AF_UNSPEC, 0, to);
    }));
    for_each<rtnl_route>(cache, [&](rtnl_route* route) {
      // Those that come with an address, and the end of IPv6's table.
      if (::rtnl_route_get_protocol(route) == RTPROT_KERNEL) return;
      char text[128];
      ::nl_addr2str(::rtnl_route_get_dst(route), text, sizeof text);
      extra(format("route {} in table {}", text, ::rtnl_route_get_table(route)));
    });
    return {};
  }

  [[nodiscard]] Result<> rules() {
    const Cache cache = TRY(ask("list rules", [&](nl_cache** to) {
      return ::rtnl_rule_alloc_cache(socket_, AF_UNSPEC, to);
    }));
    for_each<rtnl_rule>(cache, [&](rtnl_rule* rule) {
      const std::uint32_t priority = ::rtnl_rule_get_prio(rule), table = ::rtnl_rule_get_table(rule);
      const bool initial = (priority == 0 && table == RT_TABLE_LOCAL) ||
                           (priority == 32766 && table == RT_TABLE_MAIN) ||
                           (priority == 32767 && (table == RT_TABLE_DEFAULT || table == RT_TABLE_MAIN));
      if (!initial) extra(format("rule {} for table {}", priority, table));
    });
    return {};
  }

  nl_sock* socket_;
  Contents contents_;
  std::map<int, std::string> names_;
};

}  // namespace

Result<Fd> open_route_socket() {
  Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!socket) return fail(Error::kernel("socket NETLINK_ROUTE", errno));
  return socket;
}

Result<Contents> look_at(const Fd& route_socket) {
  const Socket socket = TRY(adopt(route_socket));
  return Look(socket.get()).run();
}

Result<Loopback> look_at_loopback(const Fd& route_socket) {
  const Socket socket = TRY(adopt(route_socket));
  rtnl_link* link = nullptr;
  if (const int code = ::rtnl_link_get_kernel(socket.get(), 0, "lo", &link); code < 0)
    return failed("look at link lo", code);
  const Loopback loopback = loopback_of(link);
  ::rtnl_link_put(link);
  return loopback;
}

Result<> set_loopback(bool up) {
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail(Error::kernel("socket AF_INET", errno));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  TRY(sys::ioctl(socket.get(), SIOCGIFFLAGS, &request));
  const short flags = static_cast<short>(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
  if (flags == request.ifr_flags) return {};
  request.ifr_flags = flags;
  TRY(sys::ioctl(socket.get(), SIOCSIFFLAGS, &request));
  return {};
}

}  // namespace dormouse::netns
