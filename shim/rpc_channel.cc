#include "shim/rpc_channel.h"

#include <google/protobuf/io/coded_stream.h>

#include <cerrno>

#include "kernel/socket.h"

namespace dormouse::shim {
namespace {

// A request of a container with thousands of mounts is below one MiB.
constexpr std::size_t kMaxRequestBytes = 16u << 20;

// Numbers of fields that the schema does not know. An enumerator that it does not know is one too.
std::vector<int> unknown_fields(const pb::criu_opts& message) {
  const std::string& unknown = message.unknown_fields();
  std::vector<int> numbers;
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const std::uint8_t*>(unknown.data()),
                                            static_cast<int>(unknown.size()));
  while (const std::uint32_t tag = in.ReadTag()) {
    numbers.push_back(static_cast<int>(tag >> 3));
    std::uint64_t ignored;
    std::uint32_t size;
    switch (tag & 7) {
      case 0:
        in.ReadVarint64(&ignored);
        break;
      case 1:
        in.Skip(8);
        break;
      case 2:
        if (in.ReadVarint32(&size)) in.Skip(static_cast<int>(size));
        break;
      case 5:
        in.Skip(4);
        break;
      default:
        return numbers;  // groups: nobody sends them
    }
  }
  return numbers;
}

Error undecodable() {
  return Error::bad_option("not a request").object("RPC message");
}

}  // namespace

Result<RpcRequest> RpcChannel::receive() {
  const std::size_t size =
      TRY_OR(sys::next_message_size(socket_), std::move(e).object("RPC socket"));
  if (size > kMaxRequestBytes) return fail(undecodable());
  // An empty packet cannot be told from the end of the connection; no request is empty.
  if (size == 0)
    return fail(Error::kernel("the client closed the connection", ECONNRESET).object("RPC socket"));
  const sys::Message packet =
      TRY_OR(sys::recv_with_fds(socket_, size), std::move(e).object("RPC socket"));

  RpcRequest request;
  if (!request.message.ParsePartialFromArray(packet.bytes.data(),
                                             static_cast<int>(packet.bytes.size())))
    return fail(undecodable());
  request.has_type = request.message.has_type();
  if (!request.has_type) request.message.set_type(pb::EMPTY);
  if (request.message.has_opts()) {
    auto& opts = *request.message.mutable_opts();
    request.unknown_options = unknown_fields(opts);
    // "Required" in the schema, and left out by clients that mean the default.
    if (!opts.has_images_dir_fd()) opts.set_images_dir_fd(-1);
  }
  if (!request.message.IsInitialized()) return fail(undecodable());
  return request;
}

Result<> RpcChannel::send(const pb::criu_resp& response, int fd) {
  const std::string bytes = response.SerializeAsString();
  const std::span<const int> fds(&fd, fd >= 0 ? 1 : 0);
  TRY_OR(sys::send_with_fds(socket_, std::as_bytes(std::span(bytes)), fds),
         std::move(e).object("RPC socket"));
  return {};
}

Result<pid_t> RpcChannel::peer_pid() const {
  const auto peer = TRY_OR(sys::peer_credentials(socket_), std::move(e).object("RPC socket"));
  if (peer.pid <= 0)
    return fail(Error::unsupported("the client is in a pid namespace that we cannot see")
                    .object("RPC socket"));
  return peer.pid;
}

Result<> RpcChannel::notify(const engine::Notification& stage) {
  pb::criu_resp message;
  message.set_type(pb::NOTIFY);
  message.set_success(true);
  message.mutable_notify()->set_script(stage.stage);
  // Clients take a pid for news of a new root task.
  if (stage.stage == "setup-namespaces" || stage.stage == "post-restore")
    message.mutable_notify()->set_pid(stage.root_pid);
  const std::string object = "notification " + stage.stage;
  TRY_OR(send(message, stage.descriptor), std::move(e).during(object));

  const RpcRequest answer = TRY_OR(receive(), std::move(e).during(object));
  if (!answer.has_type || answer.message.type() != pb::NOTIFY || !answer.message.notify_success())
    return fail(Error::conflict("the RPC client refused to go on", ECANCELED).object(object));
  if (stage.stage == "query-ext-files" && answer.message.has_opts())
    for (const std::string& external : answer.message.opts().external()) {
      if (!stage.more_externals)
        return fail(Error::unsupported("adding external resources this late is not built")
                        .object(format("external {}", external)));
      stage.more_externals->push_back(external);
    }
  return {};
}

}  // namespace dormouse::shim
