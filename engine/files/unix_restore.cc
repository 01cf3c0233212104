#include "engine/files/unix_restore.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "base/defer.h"
#include "base/format.h"
#include "engine/files/paths.h"
#include "engine/files/socket_options.h"
#include "images/schema/files.pb.h"
#include "images/schema/rpc.pb.h"
#include "kernel/file.h"
#include "kernel/socket.h"
#include "kernel/visit.h"

namespace dormouse::engine {
namespace {

constexpr unsigned long kSiocUnixFile = 0x89e0;  // see unix_socket.cc

std::string object_of(const pb::unix_sk_entry& record) {
  if (record.name().empty()) return format("unix socket:[{}]", record.ino());
  return format("unix socket:[{}] ({})", record.ino(), printable_name(record.name()));
}

std::string key_of(const pb::unix_sk_entry& record) { return format("socket:[{}]", record.ino()); }

Result<> bind_to(int fd, std::string_view name) {
  ::sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, name.data(), std::min(name.size(), sizeof address.sun_path));
  const auto length = static_cast<socklen_t>(offsetof(::sockaddr_un, sun_path) +
                                             std::min(name.size(), sizeof address.sun_path));
  if (::bind(fd, reinterpret_cast<const ::sockaddr*>(&address), length) == 0) return {};
  if (errno == EADDRINUSE)
    return fail(Error::conflict("its name is in use on this node", EADDRINUSE).remedy("end who uses it"));
  return fail(Error::kernel("bind", errno));
}

Result<> connect_to(int fd, std::string_view name) {
  ::sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, name.data(), std::min(name.size(), sizeof address.sun_path));
  const auto length = static_cast<socklen_t>(offsetof(::sockaddr_un, sun_path) +
                                             std::min(name.size(), sizeof address.sun_path));
  if (::connect(fd, reinterpret_cast<const ::sockaddr*>(&address), length) == 0) return {};
  return fail(Error::kernel("connect", errno));
}

// Whatever became of its name: a path leads through the descriptor of the socket's file.
Result<> connect_to_socket(int fd, int listener, const pb::unix_sk_entry& record) {
  if (unix_path(record.name()).empty()) return connect_to(fd, record.name());
  const Fd file(TRY(sys::ioctl(listener, kSiocUnixFile)));
  return connect_to(fd, format("/proc/self/fd/{}", file.get()));
}

Result<> forget_peer(int fd) {
  ::sockaddr nobody{};
  nobody.sa_family = AF_UNSPEC;
  if (::connect(fd, &nobody, sizeof nobody.sa_family) == 0) return {};
  return fail(Error::kernel("connect(AF_UNSPEC)", errno));
}

Result<> listen_with(int fd, std::uint32_t backlog) {
  if (::listen(fd, static_cast<int>(std::min<std::uint32_t>(backlog, 1 << 30))) == 0) return {};
  return fail(Error::kernel("listen", errno));
}

// Watches are added by a task that has the epoll, under the task's own numbers.
Result<> refuse_watches(const Image& image, std::uint32_t id) {
  const auto file = image.files.find(id);
  if (file == image.files.end() || !file->second.has_epfd() || file->second.epfd().tfd_size() == 0) return {};
  for (const auto& [table, descriptors] : image.descriptors)
    for (const pb::fdinfo_entry& descriptor : descriptors)
      if (descriptor.id() == id) return {};
  return fail(Error::unsupported("it is on its way through a socket, and what it watches cannot be restored yet")
                  .object(format("epoll of open file {}", id)).owner("the image"));
}

// What libcriu's criu_dump() returns 1 for: the task that asked for its own dump lives again.
Result<> answer_requester(int fd) {
  pb::criu_resp reply;
  reply.set_type(pb::DUMP);
  reply.set_success(true);
  reply.mutable_dump()->set_restored(true);
  const std::string text = reply.SerializeAsString();
  return sys::send_with_fds(fd, std::as_bytes(std::span(text)), {});
}

}  // namespace

UnixSocketsRestore::~UnixSocketsRestore() {
  for (const auto& [directory, name] : made_) (void)sys::unlinkat(directory.get(), name);
}

Result<std::unique_ptr<UnixSocketsRestore>> UnixSocketsRestore::create(FilesOpener& opener) {
  std::unique_ptr<UnixSocketsRestore> made(new UnixSocketsRestore(opener));
  made->queues_ = TRY(load_queues(opener.context().in));
  std::set<std::uint32_t> fed;
  for (const auto& [id, queue] : made->queues_) fed.insert(id);
  made->plan_ = TRY(plan_unix_sockets(opener.context().image.files, fed));
  for (const UnixPlan::Socket& plan : made->plan_.sockets) {
    made->by_file_id_[plan.record->id()] = made->sockets_.size();
    made->sockets_.push_back({.plan = &plan, .fd = {}, .feeder = {}});
  }
  TRY(made->take_given());
  TRY(made->make(false));
  TRY(sys::visit_namespaces(opener.network(), CLONE_NEWNET, [&]() -> Result<> {
    TRY(made->make(true));
    TRY(made->make_listeners_for_names());
    // Names in the file system are those that the container sees.
    if (::fchdir(opener.root()) != 0 || ::chroot(".") != 0) return fail(Error::kernel("chroot", errno));
    ::umask(0);
    return made->bind_all();
  }));
  TRY(made->accept_pairs());
  return made;
}

// In the tree's own network namespace, or in the engine's, where a runtime made it.
bool UnixSocketsRestore::is_inside(const pb::unix_sk_entry& record) const {
  const auto& image = opener_.context().image;
  if (image.tasks.empty() || record.ns_id() == image.tasks.front().ids.net_ns_id()) return true;
  return record.ns_id() != image.inventory.root_ids().net_ns_id();
}

Result<> UnixSocketsRestore::take_given() {
  for (Socket& socket : sockets_) {
    const auto given = opener_.inherited(key_of(*socket.plan->record));
    if (!given) continue;
    socket.fd = TRY(sys::duplicate(*given));
    socket.given = true;
  }
  for (const Socket& socket : sockets_) {
    const pb::unix_sk_entry& record = *socket.plan->record;
    const auto refuse = [&](std::string reason, std::string remedy) {
      return fail(Error::bad_option(std::move(reason)).object(object_of(record)).owner("the image").remedy(std::move(remedy)));
    };
    if (socket.given) continue;
    const std::string pass = format("pass one: --inherit-fd fd[N]:{}", key_of(record));
    if (record.uflags() & kByPlugin) return refuse("it is to be made by a plugin, and no descriptor is given for it", pass);
    if (record.peer() != 0 && !socket.plan->peer) return refuse("its peer is not in the image, and no descriptor is given for it", pass);
    if (!socket.plan->peer) continue;
    const Socket& peer = sockets_[*socket.plan->peer];
    if (peer.given && !socket.plan->connects) return refuse("a descriptor is given for its other end only", pass);
    if (peer.plan->birth != UnixBirth::kOutside) continue;
    if (record.type() != SOCK_DGRAM) return refuse("its peer is outside, and no descriptor is given for it", pass);
    if (!opener_.options().external_unix_sockets)
      return refuse("its peer is outside", "allow to connect to it by name: --ext-unix-sk");
  }
  return {};
}

Result<> UnixSocketsRestore::make(bool inside) {
  for (Socket& socket : sockets_) {
    if (socket.given || socket.fd || is_inside(*socket.plan->record) != inside) continue;
    TRY_OR(make_one(socket), std::move(e).object(object_of(*socket.plan->record)));
  }
  return {};
}

Result<> UnixSocketsRestore::make_one(Socket& socket) {
  const int type = static_cast<int>(socket.plan->record->type());
  switch (socket.plan->birth) {
    case UnixBirth::kOutside:
      return {};
    case UnixBirth::kPair: {
      auto pair = TRY(sys::socketpair(AF_UNIX, type));
      socket.fd = std::move(pair.one);
      sockets_[*socket.plan->peer].fd = std::move(pair.other);
      return {};
    }
    case UnixBirth::kAccepted:
      // The other one is what accept() gives.
      if (!socket.plan->accepted) socket.fd = TRY(sys::socket(AF_UNIX, type));
      return {};
    case UnixBirth::kAlone:
      socket.fd = TRY(sys::socket(AF_UNIX, type));
      return {};
    case UnixBirth::kFed:
    case UnixBirth::kOrphan:
    case UnixBirth::kRequester:
      return make_feeder(socket);
  }
  return {};
}

Result<> UnixSocketsRestore::make_feeder(Socket& socket) {
  auto pair = TRY(sys::socketpair(AF_UNIX, static_cast<int>(socket.plan->record->type())));
  socket.fd = std::move(pair.one);
  socket.feeder = std::move(pair.other);
  if (socket.plan->birth != UnixBirth::kFed) return {};
  // It has no peer, or another one. The feeder still has it for its peer; the failure that the kernel tells the
  // feeder of is forgotten by asking for it.
  TRY(forget_peer(socket.fd.get()));
  TRY(sys::getsockopt<int>(socket.feeder.get(), SOL_SOCKET, SO_ERROR));
  return {};
}

// Listeners that are gone, but whose names live on with what they accepted.
Result<> UnixSocketsRestore::make_listeners_for_names() {
  std::set<std::string> listening;
  for (const Socket& socket : sockets_)
    if (socket.plan->record->state() == kListening) listening.insert(socket.plan->record->name());
  for (const Socket& socket : sockets_) {
    const std::string& name = socket.plan->record->name();
    if (!socket.plan->accepted || listening.contains(name) || listeners_.contains(name)) continue;
    listeners_[name] = TRY(sys::socket(AF_UNIX, static_cast<int>(socket.plan->record->type())));
  }
  return {};
}

Result<> UnixSocketsRestore::bind_all() {
  for (Socket& socket : sockets_) {
    const pb::unix_sk_entry& record = *socket.plan->record;
    if (socket.given || !socket.fd) continue;
    if (socket.plan->binds) TRY_OR(bind(socket.fd.get(), record), std::move(e).object(object_of(record)));
    if (record.state() == kListening)
      TRY_OR(listen_with(socket.fd.get(), record.backlog()), std::move(e).object(object_of(record)));
  }
  for (const auto& [name, listener] : listeners_)
    for (const Socket& socket : sockets_) {
      const pb::unix_sk_entry& record = *socket.plan->record;
      if (!socket.plan->accepted || record.name() != name) continue;
      TRY_OR(bind(listener.get(), record), std::move(e).object(object_of(record)));
      TRY_OR(listen_with(listener.get(), 1), std::move(e).object(object_of(record)));
      break;
    }
  return {};
}

Result<> UnixSocketsRestore::bind(int fd, const pb::unix_sk_entry& record) {
  const std::string path = unix_path(record.name());
  return path.empty() ? bind_to(fd, record.name()) : bind_path(fd, record, path);
}

// In the container's root. A name that was gone is taken for a moment only.
Result<> UnixSocketsRestore::bind_path(int fd, const pb::unix_sk_entry& record, const std::string& path) {
  const bool relative = !path.starts_with('/');
  const std::string start = record.name_dir().empty() ? "/" : record.name_dir();
  const PathParts parts = TRY(split_path(relative ? format("{}/{}", start, path) : path));
  TemporaryDirectories directories;
  const auto directory = [&](const std::string& where) -> Result<Fd> {
    if (record.deleted()) return directories.make(opener_.root(), where);
    return open_below(opener_.root(), where, O_PATH | O_DIRECTORY);
  };
  Fd parent = TRY(directory(parts.directory));
  if (relative) {
    const Fd from = TRY(directory(start));
    if (::fchdir(from.get()) != 0) return fail(Error::kernel(format("chdir '{}'", start), errno));
  }
  const std::string aside = parts.name + ".dormouse-aside";
  bool moved = false;
  if (const auto there = sys::fstatat(parent.get(), parts.name, AT_SYMLINK_NOFOLLOW)) {
    if (record.deleted()) {
      TRY(sys::renameat(parent.get(), parts.name, parent.get(), aside));
      moved = true;
    } else if (S_ISSOCK(there->st_mode)) {
      // What the socket left behind when its tasks were ended.
      TRY(sys::unlinkat(parent.get(), parts.name));
    }
  }
  const Defer back([&] { if (moved) (void)sys::renameat(parent.get(), aside, parent.get(), parts.name); });
  TRY(bind_to(fd, record.name()));
  Defer unname([&] { (void)sys::unlinkat(parent.get(), parts.name); });
  if (record.has_file_perms()) {
    const auto& perms = record.file_perms();
    TRY(sys::fchownat(parent.get(), parts.name, opener_.uid_outside(perms.uid()), opener_.gid_outside(perms.gid())));
    TRY(sys::fchmodat(parent.get(), parts.name, perms.mode() & 07777));
  }
  if (record.deleted()) return {};
  unname.cancel();
  made_.emplace_back(std::move(parent), parts.name);
  return {};
}

Result<> UnixSocketsRestore::accept_pairs() {
  for (Socket& socket : sockets_) {
    if (socket.plan->birth != UnixBirth::kAccepted || !socket.plan->accepted || socket.given) continue;
    TRY_OR(accept_pair(sockets_[*socket.plan->peer], socket), std::move(e).object(object_of(*socket.plan->record)));
  }
  listeners_.clear();
  return {};
}

Result<> UnixSocketsRestore::accept_pair(Socket& client, Socket& server) {
  int listener = -1;
  if (const auto made = listeners_.find(server.plan->record->name()); made != listeners_.end())
    listener = made->second.get();
  for (const Socket& each : sockets_)
    if (each.plan->record->state() == kListening && each.plan->record->name() == server.plan->record->name() &&
        each.plan->record->type() == server.plan->record->type() && each.fd)
      listener = each.fd.get();
  if (listener < 0) return fail(Error::corrupt("nobody listens under its name"));
  TRY(sys::fcntl(client.fd.get(), F_SETFL, O_NONBLOCK));
  TRY(connect_to_socket(client.fd.get(), listener, *server.plan->record));
  TRY(sys::fcntl(client.fd.get(), F_SETFL, 0));
  const int accepted = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  if (accepted < 0) return fail(Error::kernel("accept4", errno));
  server.fd = Fd(accepted);
  return {};
}

Result<Fd> UnixSocketsRestore::open(std::uint32_t file_id) const {
  const auto found = by_file_id_.find(file_id);
  if (found == by_file_id_.end() || !sockets_[found->second].fd)
    return fail(Error::corrupt("a descriptor refers to a unix socket that is only a name"));
  return sys::duplicate(sockets_[found->second].fd.get());
}

Result<> UnixSocketsRestore::open_in_flight() {
  for (const auto& [socket, queue] : queues_) {
    if (!by_file_id_.contains(socket)) continue;
    for (const SavedMessage& message : queue)
      for (const std::uint32_t id : message.files) {
        TRY(refuse_watches(opener_.context().image, id));
        in_flight_[id] = TRY(opener_.open_file(id));
      }
  }
  return {};
}

Result<> UnixSocketsRestore::connect() {
  for (Socket& socket : sockets_)
    if (!socket.given) TRY_OR(fill(socket), std::move(e).object(object_of(*socket.plan->record)));
  for (Socket& socket : sockets_) {
    if (socket.plan->birth == UnixBirth::kRequester && !socket.given) TRY(answer_requester(socket.feeder.get()));
    socket.feeder.reset();
  }
  for (const std::size_t index : plan_.connections) {
    Socket& socket = sockets_[index];
    if (!socket.given) TRY_OR(connect_one(socket), std::move(e).object(object_of(*socket.plan->record)));
  }
  for (Socket& socket : sockets_)
    if (!socket.given && socket.fd) TRY_OR(finish_one(socket), std::move(e).object(object_of(*socket.plan->record)));
  return {};
}

Result<> UnixSocketsRestore::fill(Socket& socket) {
  const auto queue = queues_.find(socket.plan->record->id());
  if (queue == queues_.end()) return {};
  const bool has_pair = socket.plan->birth == UnixBirth::kPair || socket.plan->birth == UnixBirth::kAccepted;
  const int sender = has_pair ? sockets_[*socket.plan->peer].fd.get() : socket.feeder.get();
  if (sender < 0) return fail(Error::corrupt("something waits in it, but nobody can have sent it"));
  TRY(enlarge_buffers(sender));
  for (const SavedMessage& message : queue->second) {
    std::vector<int> descriptors;
    for (const std::uint32_t id : message.files) descriptors.push_back(in_flight_.at(id));
    std::optional<MessageSender> from = message.sender;
    if (from) {
      from->pid = opener_.pid_of(from->pid);
      if (from->pid == 0)
        return fail(Error::corrupt(format("a message in it is from pid {}, which is not in the image", message.sender->pid)));
      from->uid = opener_.uid_outside(from->uid);
      from->gid = opener_.gid_outside(from->gid);
    }
    TRY(send_message(sender, message, descriptors, from));
  }
  return {};
}

Result<> UnixSocketsRestore::connect_one(Socket& socket) {
  const Socket& peer = sockets_[*socket.plan->peer];
  const pb::unix_sk_entry& record = *peer.plan->record;
  TRY(sys::fcntl(socket.fd.get(), F_SETFL, O_NONBLOCK));
  if (peer.plan->birth == UnixBirth::kOutside) return connect_outside(socket, record);
  return connect_to_socket(socket.fd.get(), peer.fd.get(), record);
}

Result<> UnixSocketsRestore::connect_outside(Socket& socket, const pb::unix_sk_entry& peer) {
  return sys::visit_namespaces(opener_.network(), CLONE_NEWNET, [&]() -> Result<> {
    if (::fchdir(opener_.root()) != 0 || ::chroot(".") != 0) return fail(Error::kernel("chroot", errno));
    TRY_OR(connect_to(socket.fd.get(), peer.name()),
           std::move(e).remedy(format("start the peer {} first", printable_name(peer.name()))));
    return {};
  });
}

Result<> UnixSocketsRestore::finish_one(Socket& socket) {
  const pb::unix_sk_entry& record = *socket.plan->record;
  const int fd = socket.fd.get();
  TRY(apply_socket_options(fd, record.opts()));
  if (record.shutdown() != pb::NONE && ::shutdown(fd, static_cast<int>(record.shutdown()) - 1) != 0 &&
      errno != ENOTCONN)
    return fail(Error::kernel("shutdown", errno));
  TRY(sys::fcntl(fd, F_SETFL, 0));
  return opener_.set_owner_and_flags(fd, record.fown(), record.flags());
}

}  // namespace dormouse::engine
