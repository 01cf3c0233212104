#include "engine/files/unix_socket.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>

#include "base/format.h"
#include "engine/files/open_file.h"
#include "engine/files/saver.h"
#include "engine/files/socket_options.h"
#include "engine/files/unix_plan.h"
#include "engine/files/unix_queue.h"
#include "engine/files/unix_restore.h"
#include "images/schema/files.pb.h"
#include "kernel/file.h"
#include "kernel/socket.h"
#include "kernel/visit.h"

namespace dormouse::engine {
namespace {

// linux/un.h: the file that a socket is bound to, as O_PATH (Linux 4.16).
constexpr unsigned long kSiocUnixFile = 0x89e0;

// What the format has no place for, and what would change how messages are received.
Result<> refuse_unknown_options(const OpenFile& file) {
  constexpr int kPassPidfd = 76, kPassRights = 83;  // Linux 6.5, 6.16
  const auto is = [&](int name, int other_than) {
    const auto value = sys::getsockopt<int>(file.fd.get(), SOL_SOCKET, name);
    return value && *value != other_than;
  };
  if (is(kPassPidfd, 0))
    return fail(file.blocked("asks for the pidfd of senders (SO_PASSPIDFD), which images have no place for",
                             "set the option to 0 before the checkpoint"));
  if (is(kPassRights, 1))
    return fail(file.blocked("takes no descriptors (SO_PASSRIGHTS is 0), which images have no place for",
                             "set the option to 1 before the checkpoint"));
  if (is(SO_PEEK_OFF, -1))
    return fail(file.blocked("has a peek offset (SO_PEEK_OFF), which images have no place for",
                             "set the option to -1 before the checkpoint"));
  return {};
}

constexpr std::string_view kDeleted = " (deleted)";

}  // namespace

// One socket of the tree whose record is not complete yet.
struct UnixSocketFile::Saved {
  pb::file_entry record;
  netns::UnixSocket told;
  Fd fd;
  const Task* task = nullptr;
  std::string object;

  Error blocked(std::string reason, std::string remedy) const {
    return Error::unsupported(std::move(reason)).object(object).owner(task->name()).remedy(std::move(remedy));
  }
  Error failed(Error error) const { return std::move(error).object(object).owner(task->name()); }
};

UnixSocketFile::UnixSocketFile() = default;
UnixSocketFile::~UnixSocketFile() = default;

int UnixSocketFile::type() const { return pb::UNIXSK; }

bool UnixSocketFile::matches(const OpenFile& file) const {
  return file.fs_type == SOCKFS_MAGIC && file.socket_family == AF_UNIX;
}

// All sockets at once: who is connected to whom can only be told from both ends.
Result<> UnixSocketFile::learn(const OpenFile& file) {
  if (std::exchange(learnt_, true)) return {};
  Fd inside;
  TRY(sys::visit_namespaces(file.task->pidfd.get(), CLONE_NEWNET, [&]() -> Result<> {
    inside = TRY(netns::open_diag_socket());
    return {};
  }));
  inside_ = TRY(netns::list_unix_sockets(inside));
  outside_ = TRY(netns::list_unix_sockets(TRY(netns::open_diag_socket())));
  return {};
}

const netns::UnixSocket* UnixSocketFile::told(std::uint32_t inode) const {
  for (const netns::UnixSockets* all : {&inside_, &outside_})
    if (const auto found = all->find(inode); found != all->end()) return &found->second;
  return nullptr;
}

Result<> UnixSocketFile::save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) {
  TRY_OR(learn(file), file.failed(std::move(e)));
  const auto inode = static_cast<std::uint32_t>(file.stat.st_ino);
  const netns::UnixSocket* const socket = told(inode);
  if (socket == nullptr)
    return fail(file.blocked("is a unix socket of another network namespace", "close it before the checkpoint"));
  TRY(refuse_unknown_options(file));
  auto saved = std::make_unique<Saved>();
  saved->told = *socket;
  saved->fd = TRY(sys::duplicate(file.fd.get()));
  saved->task = file.task;
  saved->object = file.object();
  saved->record.set_type(pb::UNIXSK);
  saved->record.set_id(id);
  pb::unix_sk_entry* entry = saved->record.mutable_usk();
  entry->set_id(id);
  entry->set_ino(inode);
  entry->set_type(static_cast<std::uint32_t>(socket->type));
  entry->set_state(static_cast<std::uint32_t>(socket->state));
  entry->set_flags(file.flags);
  entry->set_uflags(0);
  entry->set_backlog(socket->send_queue);
  entry->set_peer(socket->peer);
  entry->set_name(socket->name);
  if (socket->shutdown != 0) entry->set_shutdown(static_cast<pb::sk_shutdown>(socket->shutdown));
  entry->set_ns_id(inside_.contains(inode) ? saver.network_id(true) : saver.network_id(false));
  saver.fill_owner(file, entry->mutable_fown());
  TRY_OR(read_socket_options(file.fd.get(), AF_UNIX, entry->mutable_opts()), file.failed(std::move(e)));
  TRY(describe_name(file, *saved, saver));
  by_inode_[inode] = saved.get();
  saved_.push_back(std::move(saved));
  return {};
}

// Where the socket's file is, and what it looks like.
Result<> UnixSocketFile::describe_name(const OpenFile& file, Saved& saved, FilesSaver& saver) {
  const std::string path = unix_path(saved.told.name);
  if (path.empty()) return {};
  pb::unix_sk_entry* entry = saved.record.mutable_usk();
  const Fd bound(TRY_OR(sys::ioctl(file.fd.get(), kSiocUnixFile), file.failed(std::move(e))));
  const auto st = TRY_OR(sys::fstat(bound.get()), file.failed(std::move(e)));
  entry->mutable_file_perms()->set_mode(st.st_mode);
  entry->mutable_file_perms()->set_uid(saver.uid_in_image(st.st_uid));
  entry->mutable_file_perms()->set_gid(saver.gid_in_image(st.st_gid));
  if (saver.has_own_mounts())
    entry->set_mnt_id(static_cast<std::int32_t>(TRY_OR(sys::mount_id(bound.get()), file.failed(std::move(e)))));
  std::string link = TRY(sys::readlinkat(AT_FDCWD, format("/proc/self/fd/{}", bound.get())));
  const bool deleted = link.ends_with(kDeleted);
  if (deleted) {
    entry->set_deleted(true);
    link.resize(link.size() - kDeleted.size());
  }
  const auto leads_here = [&](const std::string& name) {
    const auto found = sys::fstatat(saver.root(), name.substr(1), 0);
    return found && found->st_ino == st.st_ino && found->st_dev == st.st_dev;
  };
  if (!deleted && !leads_here(link))
    return fail(file.blocked(format("is bound to '{}', but something is mounted over that", link),
                             "unmount it before the checkpoint"));
  if (path.starts_with('/')) {
    if (deleted || leads_here(path)) return {};
    return fail(file.blocked(format("is bound to '{}', but its file is '{}' now", path, link),
                             "rename it back before the checkpoint"));
  }
  // The directory that the name was relative to. "./a" and "a" are the same name in it.
  const auto directory = directory_of_name(link, path);
  if (!directory)
    return fail(file.blocked(format("is bound to '{}', but its file is '{}' now", path, link),
                             "rename it back before the checkpoint"));
  entry->set_name_dir(*directory);
  return {};
}

Result<> UnixSocketFile::save_in_flight(FilesSaver& saver) {
  // Grows while it is walked: sockets on their way inside other sockets have queues, too.
  for (std::size_t i = 0; i < saved_.size(); ++i)
    if (saved_[i]->told.state != kListening) saver.context().blockers.note(save_queue(*saved_[i], saver));
  for (const auto& saved : saved_) saver.context().blockers.note(connect_record(*saved, saver));
  return {};
}

Result<> UnixSocketFile::save_queue(Saved& saved, FilesSaver& saver) {
  const bool at_end = (saved.told.shutdown & pb::READ) != 0;
  const auto queue = TRY_OR(peek_queue(saved.fd.get(), saved.told.type, at_end), saved.failed(std::move(e)));
  for (const QueuedMessage& message : queue) {
    pb::sk_packet_entry entry;
    entry.set_id_for(saved.record.id());
    entry.set_length(static_cast<std::uint32_t>(message.bytes.size()));
    if (!message.descriptors.empty()) {
      pb::scm_entry* const rights = entry.add_scm();
      rights->set_type(SCM_RIGHTS);
      for (const Fd& descriptor : message.descriptors)
        rights->add_rights(TRY(saver.save_carried(TRY(sys::duplicate(descriptor.get())), *saved.task)));
    }
    if (message.sender && message.sender->pid != 0) {
      const auto pid = pid_in_image(saver.context().tree, message.sender->pid);
      if (!pid)
        return fail(saved.blocked(format("holds a message whose sender, pid {}, is not among the tasks", message.sender->pid),
                                  "let its reader catch up before the checkpoint"));
      pb::scm_entry* const sender = entry.add_scm();
      sender->set_type(SCM_CREDENTIALS);
      sender->add_rights(static_cast<std::uint32_t>(*pid));
      sender->add_rights(saver.uid_in_image(message.sender->uid));
      sender->add_rights(saver.gid_in_image(message.sender->gid));
    }
    if (!queues_) queues_ = TRY(saver.context().out.create(images::kSocketQueues));
    TRY(queues_->append(entry));
    TRY(queues_->append_bytes(message.bytes));
  }
  return {};
}

// The other end: in the tree, outside, gone, or a listening socket that has not accepted yet.
Result<> UnixSocketFile::connect_record(Saved& saved, FilesSaver& saver) {
  pb::unix_sk_entry* entry = saved.record.mutable_usk();
  if (saved.told.state == kListening) return check_waiting(saved);
  if (saved.told.peer != 0) {
    const auto found = by_inode_.find(saved.told.peer);
    if (found == by_inode_.end()) return allow_outside(saved, told(saved.told.peer), saver);
    const netns::UnixSocket& peer = found->second->told;
    if (peer.peer != saved.told.inode && peer.name.empty())
      return fail(saved.blocked(format("is connected to socket {}, which has no name and another peer", peer.inode),
                                "connect it anew, or close it"));
    return {};
  }
  if (saved.told.state != kEstablished || saved.told.type == SOCK_DGRAM) return {};
  for (const auto& [inode, listener] : inside_) {
    if (std::ranges::find(listener.waiting, saved.told.inode) == listener.waiting.end()) continue;
    if (!by_inode_.contains(inode)) return allow_outside(saved, &listener, saver);
    if (saved.told.send_queue != 0)
      return fail(saved.blocked("has sent data on a connection that is not accepted yet, and nobody can read it",
                                "let the listener accept before the checkpoint"));
    entry->set_peer(inode);
    return {};
  }
  if (entry->shutdown() == pb::BOTH) return {};
  return fail(saved.blocked("is connected to a socket that the kernel does not tell", "close it before the checkpoint"));
}

Result<> UnixSocketFile::check_waiting(const Saved& saved) const {
  if (std::ranges::find(saved.told.waiting, 0u) == saved.told.waiting.end()) return {};
  return fail(saved.blocked("has a connection waiting that its maker closed already, and nobody can read what it sent",
                            "accept it before the checkpoint"));
}

Result<> UnixSocketFile::allow_outside(Saved& saved, const netns::UnixSocket* peer, FilesSaver& saver) {
  pb::unix_sk_entry* entry = saved.record.mutable_usk();
  if (saved.told.peer != 0 && saved.told.peer == saver.options().requester_socket) {
    entry->set_state(kClosed);
    entry->set_peer(0);
    entry->set_uflags(kToRequester);
    return {};
  }
  const std::string other = peer != nullptr && !peer->name.empty()
                                ? format("socket {} ({})", peer->inode, printable_name(peer->name))
                                : format("socket {}", saved.told.peer);
  const bool declared = saver.is_external(format("unix[{}]", saved.told.inode));
  const bool by_name = saver.options().external_unix_sockets && peer != nullptr && peer->type == SOCK_DGRAM &&
                       !peer->name.empty();
  if (!declared && !by_name)
    return fail(saved.blocked(
        format("is connected to {}, which belongs to nobody among the tasks", other),
        peer != nullptr && peer->type == SOCK_DGRAM && !peer->name.empty()
            ? std::string("allow to connect again by name: --ext-unix-sk")
            : format("replace it at restore: --external unix[{}], then --inherit-fd fd[N]:socket:[{}]",
                     saved.told.inode, saved.told.inode)));
  if (peer == nullptr) return {};
  entry->set_peer(peer->inode);
  return write_outside(*peer, entry->ns_id(), saver);
}

// A record for the peer, which says no more than its name.
Result<> UnixSocketFile::write_outside(const netns::UnixSocket& peer, std::uint32_t ns_id, FilesSaver& saver) {
  if (outside_peers_.contains(peer.inode)) return {};
  const std::uint32_t id = saver.next_id()++;
  outside_peers_[peer.inode] = id;
  pb::file_entry record;
  record.set_type(pb::UNIXSK);
  record.set_id(id);
  pb::unix_sk_entry* entry = record.mutable_usk();
  entry->set_id(id);
  entry->set_ino(peer.inode);
  entry->set_type(SOCK_DGRAM);
  entry->set_state(kListening);
  entry->set_flags(0);
  entry->set_uflags(kIsOutside);
  entry->set_backlog(0);
  entry->set_peer(0);
  entry->set_name(peer.name);
  entry->set_ns_id(ns_id);
  owner_to_image({}, saver.context().tree, entry->mutable_fown());
  pb::sk_opts_entry* options = entry->mutable_opts();
  options->set_so_sndbuf(0);
  options->set_so_rcvbuf(0);
  options->set_so_snd_tmo_sec(0);
  options->set_so_snd_tmo_usec(0);
  options->set_so_rcv_tmo_sec(0);
  options->set_so_rcv_tmo_usec(0);
  return saver.write(record);
}

Result<> UnixSocketFile::finish_saving(FilesSaver& saver) {
  for (const auto& saved : saved_) TRY(saver.write(saved->record));
  if (!queues_) return {};
  return queues_->finish();
}

Result<Fd> UnixSocketFile::open(const pb::file_entry& entry, FilesOpener& opener) {
  if (!restored_) restored_ = TRY(UnixSocketsRestore::create(opener));
  return restored_->open(entry.id());
}

Result<> UnixSocketFile::open_in_flight(FilesOpener&) {
  if (!restored_) return {};
  return restored_->open_in_flight();
}

Result<> UnixSocketFile::refill(FilesOpener&) {
  if (!restored_) return {};
  return restored_->connect();
}

void UnixSocketFile::keep() {
  if (restored_) restored_->keep();
}

}  // namespace dormouse::engine
