// Messages that wait in a unix socket: sk-queues.img, records followed by the message's bytes.
//
// A descriptor that is on its way (SCM_RIGHTS) is stored as the id of its open file. Who sent a message
// (SCM_CREDENTIALS: pid, uid, gid in the place of the rights) is stored where the receiver asks for it; the
// reference engine refuses such queues at dump, and images with them at restore, each by name.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "images/directory.h"

namespace dormouse::engine {

struct MessageSender {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};

// A message as it comes out of the kernel.
struct QueuedMessage {
  std::vector<std::byte> bytes;
  std::vector<Fd> descriptors;
  std::optional<MessageSender> sender;  // in the engine's numbers; only if the socket has SO_PASSCRED
};

// Everything that waits in the socket, which keeps it: only its peek offset is used meanwhile, and put back.
// The kernel shows an empty message behind others only once (net/core/datagram.c: skb->peeked), so one that an
// earlier dump has seen, whose tasks went on, is not seen again.
// `type`: SOCK_*; `at_end`: nothing can come any more, so that an empty packet means the end.
Result<std::vector<QueuedMessage>> peek_queue(int fd, int type, bool at_end);

// As the image holds it.
struct SavedMessage {
  std::vector<std::byte> bytes;
  std::vector<std::uint32_t> files;     // ids
  std::optional<MessageSender> sender;  // in the image's numbers
};
using SavedQueues = std::map<std::uint32_t, std::vector<SavedMessage>>;  // by file id of the socket
Result<SavedQueues> load_queues(const images::InputDirectory& in);

// Into whatever `fd` sends to. `descriptors` and `sender` as this process knows them.
[[nodiscard]] Result<> send_message(int fd, const SavedMessage& message, const std::vector<int>& descriptors,
                                    const std::optional<MessageSender>& sender);

}  // namespace dormouse::engine
