#include "parasite/host/lend.h"

#include <sys/socket.h>
#include <sys/syscall.h>

#include <cstring>
#include <utility>

#include "kernel/process.h"
#include "kernel/socket.h"

namespace dormouse::parasite {
namespace {

// Kernel layouts of what recvmsg fills (struct user_msghdr).
struct MessageHeader {
  std::uint64_t name, name_length, vectors, vector_count, control, control_length;
  std::int32_t flags, pad;
};

struct Borrowings {
  std::int32_t sockets[2] = {-1, -1};
  struct {
    std::uint64_t length = 0;
    std::int32_t level = 0, type = 0;
    std::int32_t descriptor = -1, pad = 0;
  } control;
};

Result<> run_one(Keeper& keeper, HeldProcess& held, const Program& program) {
  Batch batch(keeper);
  TRY(batch.add(held, held.leader(), program));
  return batch.run();
}

}  // namespace

Result<LentDescriptor> LentDescriptor::lend(Keeper& keeper, HeldProcess& held, int pidfd, int descriptor) {
  // The farewell stands before there is anything to close, and names places that still hold -1.
  Program farewell;
  const DataRef at = farewell.value(Borrowings{});
  const DataRef received = at + offsetof(Borrowings, control.descriptor);
  farewell.call("", SYS_close, {Load{at}}, anything());
  farewell.call("", SYS_close, {Load{at + 4}}, anything());
  farewell.call("", SYS_close, {Load{received}}, anything());
  const Placed placed = TRY(held.set_farewell(farewell));
  const auto address = [&](std::size_t offset) {
    return placed.data_address(at + static_cast<std::uint32_t>(offset));
  };

  Program make;
  make.call("make a socket pair to receive a descriptor", SYS_socketpair,
            {AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, address(0)});
  TRY(run_one(keeper, held, make));
  const auto sockets = placed.value<Borrowings>(at);
  Result<int> number = [&]() -> Result<int> {
    const Fd ours = TRY(sys::pidfd_getfd(pidfd, sockets.sockets[0]));
    TRY(sys::send_with_fds(ours.get(), std::as_bytes(std::span("x", 1)), std::span(&descriptor, 1)));
    Program receive;
    const DataRef byte = receive.zeros(8);
    const DataRef vector = receive.zeros(16);
    receive.point(vector, byte);
    const MessageHeader header{0, 0, 0, 1, address(offsetof(Borrowings, control)),
                               sizeof(Borrowings::control), 0, 0};
    const DataRef message = receive.value(header);
    receive.point(message + offsetof(MessageHeader, vectors), vector);
    receive.call("receive a descriptor", SYS_recvmsg,
                 {sockets.sockets[1], message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT});
    receive.call("", SYS_close, {sockets.sockets[0]});
    receive.call("", SYS_close, {sockets.sockets[1]});
    TRY(run_one(keeper, held, receive));
    return placed.value<Borrowings>(at).control.descriptor;
  }();
  if (!number) {
    Program undo;
    undo.call("", SYS_close, {sockets.sockets[0]}, anything());
    undo.call("", SYS_close, {sockets.sockets[1]}, anything());
    (void)run_one(keeper, held, undo);
    held.drop_farewell();
    return fail(std::move(number).error().during("lending a descriptor"));
  }
  // The sockets are closed; their numbers may be anybody's if the thread should ever leave alone.
  const Borrowings none{};
  std::memcpy(placed.data(at, sizeof none.sockets).data(), none.sockets, sizeof none.sockets);
  return LentDescriptor(keeper, held, *number);
}

LentDescriptor::LentDescriptor(LentDescriptor&& other) noexcept
    : keeper_(other.keeper_), held_(other.held_), number_(std::exchange(other.number_, -1)) {}

LentDescriptor::~LentDescriptor() { (void)take_back(); }

Result<> LentDescriptor::take_back() {
  if (number_ < 0) return {};
  Program close;
  close.call("close what was lent", SYS_close, {std::exchange(number_, -1)});
  const Result<> closed = run_one(*keeper_, *held_, close);
  held_->drop_farewell();
  return closed;
}

}  // namespace dormouse::parasite
