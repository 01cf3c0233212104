#include "shim/oci_console.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/format.h"
#include "kernel/file.h"
#include "kernel/socket.h"

namespace dormouse::shim {
namespace {

Result<Fd> connect_to(const std::string& path) {
  // An address holds 107 bytes; a descriptor of the directory makes every path short enough.
  const auto slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  const Fd parent = TRY(sys::openat(AT_FDCWD, directory, O_PATH | O_DIRECTORY));
  const std::string address = format("/proc/self/fd/{}/{}", parent.get(), name);
  sockaddr_un un{};
  un.sun_family = AF_UNIX;
  if (address.size() >= sizeof un.sun_path) return fail(Error::kernel("connect", ENAMETOOLONG));
  std::memcpy(un.sun_path, address.c_str(), address.size());
  Fd socket = TRY(sys::socket(AF_UNIX, SOCK_STREAM));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&un), sizeof un) < 0)
    return fail(Error::kernel("connect", errno));
  return socket;
}

}  // namespace

Result<Fd> connect_console(const std::string& path) {
  return TRY_OR(connect_to(path), std::move(e).object("console socket " + path));
}

Result<> send_terminal(int socket, int master) {
  constexpr std::string_view kName = "orphan-pts-master";
  const std::array fds = {master};
  TRY_OR(sys::send_with_fds(socket, std::as_bytes(std::span(kName)), fds),
         std::move(e).during("sending the terminal").object("console socket"));
  return {};
}

}  // namespace dormouse::shim
