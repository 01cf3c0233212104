// Unix sockets. What a socket is connected to, and who waits to be accepted, is known to unix_diag only;
// so records are written when all sockets of the tree are known.
//
// A peer outside the tree is refused unless it was declared: --ext-unix-sk for datagram sockets that have a
// name, --external unix[INODE] for any, which is then to be replaced at restore: --inherit-fd
// fd[N]:socket:[INODE].
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/files/file_kind.h"
#include "images/directory.h"
#include "netns/socket_diag.h"

namespace dormouse::engine {

class UnixSocketsRestore;

class UnixSocketFile final : public FileKind {
 public:
  UnixSocketFile();
  ~UnixSocketFile() override;
  std::string_view name() const override { return "unix socket"; }
  int type() const override;
  bool matches(const OpenFile& file) const override;
  Result<> save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) override;
  Result<> save_in_flight(FilesSaver& saver) override;
  Result<> finish_saving(FilesSaver&) override;
  Result<Fd> open(const pb::file_entry& entry, FilesOpener& opener) override;
  Result<> open_in_flight(FilesOpener& opener) override;
  Result<> refill(FilesOpener& opener) override;
  void keep() override;

 private:
  struct Saved;
  [[nodiscard]] Result<> learn(const OpenFile& file);
  const netns::UnixSocket* told(std::uint32_t inode) const;
  [[nodiscard]] Result<> describe_name(const OpenFile& file, Saved& saved, FilesSaver& saver);
  [[nodiscard]] Result<> save_queue(Saved& saved, FilesSaver& saver);
  [[nodiscard]] Result<> connect_record(Saved& saved, FilesSaver& saver);
  [[nodiscard]] Result<> check_waiting(const Saved& saved) const;
  [[nodiscard]] Result<> allow_outside(Saved& saved, const netns::UnixSocket* peer, FilesSaver& saver);
  [[nodiscard]] Result<> write_outside(const netns::UnixSocket& peer, std::uint32_t ns_id, FilesSaver& saver);

  netns::UnixSockets inside_, outside_;  // of the tree's and the engine's network namespace
  bool learnt_ = false;
  std::vector<std::unique_ptr<Saved>> saved_;
  std::map<std::uint32_t, Saved*> by_inode_;
  std::map<std::uint32_t, std::uint32_t> outside_peers_;  // inode -> id of its record
  std::optional<images::Writer> queues_;

  std::unique_ptr<UnixSocketsRestore> restored_;
};

}  // namespace dormouse::engine
