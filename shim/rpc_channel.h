// The service protocol's transport: each packet of a SOCK_SEQPACKET socket is one message.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/options.h"
#include "images/schema/rpc.pb.h"

namespace dormouse::shim {

// A request as it came. Fields that this version does not know are kept by number: a client that
// sets one wants something that it will not get.
struct RpcRequest {
  pb::criu_req message;
  bool has_type = false;  // false too if the type is none that we know
  std::vector<int> unknown_options;
};

class RpcChannel {
 public:
  // The socket stays the caller's.
  explicit RpcChannel(int socket) : socket_(socket) {}

  // Blocks. A peer that is gone is kernel(ECONNRESET), bytes that are no request are kBadOption.
  Result<RpcRequest> receive();
  // `fd`: a descriptor to go along, or -1.
  [[nodiscard]] Result<> send(const pb::criu_resp& response, int fd = -1);
  // The process whose descriptors a request names by number.
  Result<pid_t> peer_pid() const;

  // Tells the client of a stage and waits for its consent.
  [[nodiscard]] Result<> notify(const engine::Notification& stage);

 private:
  int socket_;
};

}  // namespace dormouse::shim
