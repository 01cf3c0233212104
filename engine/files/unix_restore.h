// Making the unix sockets of an image, all of them together: most are what they are only with each other.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "engine/files/opener.h"
#include "engine/files/unix_plan.h"
#include "engine/files/unix_queue.h"

namespace dormouse::engine {

class UnixSocketsRestore {
 public:
  // All sockets exist, in their network namespace, with their names, and pairs are connected.
  static Result<std::unique_ptr<UnixSocketsRestore>> create(FilesOpener& opener);
  ~UnixSocketsRestore();  // without keep(): the names in the file system are removed

  Result<Fd> open(std::uint32_t file_id) const;
  // The files that messages carry.
  [[nodiscard]] Result<> open_in_flight();
  // Queues are filled, the rest is connected, and options are set.
  [[nodiscard]] Result<> connect();
  void keep() { made_.clear(); }

 private:
  explicit UnixSocketsRestore(FilesOpener& opener) : opener_(opener) {}
  struct Socket {
    const UnixPlan::Socket* plan = nullptr;
    Fd fd;
    Fd feeder;           // sends to `fd`, and is in nobody's table
    bool given = false;  // by the caller: nothing is done to it
  };
  using BoundFile = std::pair<Fd, std::string>;  // directory and name

  [[nodiscard]] Result<> take_given();
  [[nodiscard]] Result<> make(bool inside);
  [[nodiscard]] Result<> make_one(Socket& socket);
  [[nodiscard]] Result<> make_feeder(Socket& socket);
  [[nodiscard]] Result<> bind_all();
  [[nodiscard]] Result<> bind(int fd, const pb::unix_sk_entry& record);
  [[nodiscard]] Result<> bind_path(int fd, const pb::unix_sk_entry& record, const std::string& path);
  [[nodiscard]] Result<> make_listeners_for_names();
  [[nodiscard]] Result<> accept_pairs();
  [[nodiscard]] Result<> accept_pair(Socket& client, Socket& server);
  [[nodiscard]] Result<> fill(Socket& socket);
  [[nodiscard]] Result<> connect_one(Socket& socket);
  [[nodiscard]] Result<> connect_outside(Socket& socket, const pb::unix_sk_entry& peer);
  [[nodiscard]] Result<> finish_one(Socket& socket);
  bool is_inside(const pb::unix_sk_entry& record) const;

  FilesOpener& opener_;
  UnixPlan plan_;
  SavedQueues queues_;
  std::vector<Socket> sockets_;  // as in the plan
  std::map<std::uint32_t, std::size_t> by_file_id_;
  std::map<std::string, Fd> listeners_;  // made only for the names of accepted sockets
  std::map<std::uint32_t, int> in_flight_;  // file id -> the opener's descriptor
  std::vector<BoundFile> made_;
};

}  // namespace dormouse::engine
