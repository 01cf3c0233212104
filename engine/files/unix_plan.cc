#include "engine/files/unix_plan.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>

#include "base/format.h"
#include "images/schema/files.pb.h"

namespace dormouse::engine {
namespace {

Error corrupt(const pb::unix_sk_entry& record, std::string reason) {
  return Error::corrupt(std::move(reason)).object(format("socket:[{}]", record.ino())).owner("the image");
}

bool has_messages(const pb::unix_sk_entry& record) { return record.type() == SOCK_DGRAM; }

class Planner {
 public:
  Planner(const std::map<std::uint32_t, pb::file_entry>& files, const std::set<std::uint32_t>& fed)
      : files_(files), fed_(fed) {}

  Result<UnixPlan> run() {
    TRY(collect());
    TRY(find_peers());
    for (std::size_t i = 0; i < plan_.sockets.size(); ++i) TRY(decide(i));
    for (std::size_t i = 0; i < plan_.sockets.size(); ++i) order(i);
    return std::move(plan_);
  }

 private:
  Result<> collect() {
    for (const auto& [id, file] : files_) {
      if (file.type() != pb::UNIXSK) continue;
      const pb::unix_sk_entry& record = file.usk();
      TRY(check(record));
      if (!by_inode_.emplace(record.ino(), plan_.sockets.size()).second)
        return fail(corrupt(record, "appears twice"));
      plan_.sockets.push_back({.record = &record});
      if (record.state() == kListening && !(record.uflags() & kIsOutside)) listening_names_.insert(record.name());
      if (record.state() == kEstablished && !record.name().empty()) ++connected_names_[record.name()];
    }
    return {};
  }

  static Result<> check(const pb::unix_sk_entry& record) {
    if (record.ino() == 0) return fail(corrupt(record, "has no inode number"));
    const auto type = record.type();
    if (type != SOCK_STREAM && type != SOCK_DGRAM && type != SOCK_SEQPACKET)
      return fail(corrupt(record, format("is of type {}", type)));
    const auto state = record.state();
    if (state != kEstablished && state != kClosed && state != kListening)
      return fail(corrupt(record, format("is in state {}", state)));
    if (record.name().size() > sizeof(::sockaddr_un::sun_path) + 1)
      return fail(corrupt(record, format("has a name of {} bytes", record.name().size())));
    if (record.deleted() && unix_path(record.name()).empty())
      return fail(corrupt(record, "has a deleted name, but none"));
    return {};
  }

  Result<> find_peers() {
    for (UnixPlan::Socket& socket : plan_.sockets) {
      if (socket.record->peer() == 0) continue;
      const auto found = by_inode_.find(socket.record->peer());
      if (found == by_inode_.end()) {
        // A declared external one, whose peer's name was not known.
        if (plan_.sockets.empty()) return {};
        continue;
      }
      socket.peer = found->second;
      ++connected_to_[found->second];
    }
    return {};
  }

  bool is_mutual(std::size_t i) const {
    const auto peer = plan_.sockets[i].peer;
    return peer && *peer != i && plan_.sockets[*peer].peer == i;
  }

  // Others than its own peer are connected to a datagram socket of a pair: they were first, since the kernel lets
  // nobody connect to a socket that has a peer already.
  bool needs_order(std::size_t one, std::size_t other) const {
    return has_messages(*plan_.sockets[one].record) && !plan_.sockets[one].record->name().empty() &&
           !plan_.sockets[other].record->name().empty() &&
           (connected_to_.at(one) > 1 || connected_to_.at(other) > 1);
  }

  // A datagram socket that somebody is connected to is "established" as well, though it has no peer
  // (net/unix/af_unix.c: unix_dgram_connect), and one with a name may be so because of somebody who is gone.
  bool is_orphan(std::size_t i) const {
    const pb::unix_sk_entry& record = *plan_.sockets[i].record;
    if (record.state() != kEstablished) return false;
    return record.type() != SOCK_DGRAM || (record.name().empty() && !connected_to_.contains(i));
  }

  Result<> decide(std::size_t i) {
    UnixPlan::Socket& socket = plan_.sockets[i];
    const pb::unix_sk_entry& record = *socket.record;
    const bool is_fed = fed_.contains(record.id());
    socket.binds = !record.name().empty();
    if (record.uflags() & kIsOutside) {
      socket.birth = UnixBirth::kOutside;
      socket.binds = false;
    } else if (record.uflags() & kToRequester) {
      socket.birth = UnixBirth::kRequester;
      socket.peer.reset();
    } else if (is_mutual(i)) {
      return decide_pair(i, is_fed);
    } else if (socket.peer) {
      socket.connects = true;
      socket.birth = is_fed ? UnixBirth::kFed : UnixBirth::kAlone;
      return check_connection(i);
    } else if (is_orphan(i)) {
      socket.birth = UnixBirth::kOrphan;
    } else {
      socket.birth = is_fed ? UnixBirth::kFed : UnixBirth::kAlone;
    }
    return {};
  }

  Result<> decide_pair(std::size_t i, bool is_fed) {
    UnixPlan::Socket& socket = plan_.sockets[i];
    const std::size_t other = *socket.peer;
    const pb::unix_sk_entry& record = *socket.record;
    const pb::unix_sk_entry& peer = *plan_.sockets[other].record;
    if (record.type() != peer.type()) return fail(corrupt(record, "is connected to a socket of another type"));
    if (needs_order(i, other)) {
      socket.birth = is_fed ? UnixBirth::kFed : UnixBirth::kAlone;
      socket.connects = true;
      return {};
    }
    socket.birth = UnixBirth::kPair;
    if (has_messages(record)) return {};
    const auto of_listener = [&](const std::string& name) {
      if (name.empty()) return false;
      return listening_names_.contains(name) || connected_names_[name] > 1;
    };
    // If both have such names, either choice leaves one of them without.
    const bool mine = of_listener(record.name());
    const bool theirs = of_listener(peer.name());
    if (!mine && !theirs) return {};
    socket.birth = UnixBirth::kAccepted;
    socket.accepted = mine && (!theirs || i < other);
    socket.binds = socket.binds && !mine;
    return {};
  }

  Result<> check_connection(std::size_t i) const {
    const pb::unix_sk_entry& record = *plan_.sockets[i].record;
    const pb::unix_sk_entry& peer = *plan_.sockets[*plan_.sockets[i].peer].record;
    const bool outside = peer.uflags() & kIsOutside;
    if (!outside && record.type() != peer.type())
      return fail(corrupt(record, "is connected to a socket of another type"));
    if (!outside && peer.name().empty()) return fail(corrupt(record, "is connected to a socket without a name"));
    if (!outside && record.type() != SOCK_DGRAM && peer.state() != kListening)
      return fail(corrupt(record, "waits at a socket that does not listen"));
    return {};
  }

  // Whoever is connected to a datagram socket connects before that one does.
  void order(std::size_t i) {
    if (!ordered_.insert(i).second) return;
    for (std::size_t other = 0; other < plan_.sockets.size(); ++other)
      if (plan_.sockets[other].connects && plan_.sockets[other].peer == i) order(other);
    if (plan_.sockets[i].connects) plan_.connections.push_back(i);
  }

  const std::map<std::uint32_t, pb::file_entry>& files_;
  const std::set<std::uint32_t>& fed_;
  UnixPlan plan_;
  std::map<std::uint32_t, std::size_t> by_inode_;
  std::map<std::size_t, int> connected_to_;
  std::set<std::string> listening_names_;
  std::map<std::string, int> connected_names_;
  std::set<std::size_t> ordered_;
};

}  // namespace

std::string unix_path(std::string_view name) {
  if (name.empty() || name.front() == '\0') return {};
  return std::string(name.substr(0, name.find('\0')));
}

std::string printable_name(std::string_view name) {
  if (const std::string path = unix_path(name); !path.empty()) return path;
  std::string text(name);
  std::ranges::replace(text, '\0', '@');
  return text;
}

std::optional<std::string> directory_of_name(std::string_view link, std::string_view path) {
  while (path.starts_with("./")) path.remove_prefix(2);
  if (path.empty() || !link.ends_with(path)) return std::nullopt;
  link.remove_suffix(path.size());
  if (link.empty() || link.back() != '/') return std::nullopt;
  if (link.size() > 1) link.remove_suffix(1);
  return std::string(link);
}

Result<UnixPlan> plan_unix_sockets(const std::map<std::uint32_t, pb::file_entry>& files,
                                   const std::set<std::uint32_t>& fed) {
  return Planner(files, fed).run();
}

}  // namespace dormouse::engine
