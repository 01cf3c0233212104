#include <sys/socket.h>

#include "tests/workloads/workload.h"

WORKLOAD("a message that waits still says who sent it") {
  int pair[2];
  MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
  const int on = 1;
  MUST(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  const pid_t child = workload::fork_child([&] {
    MUST(write(pair[0], "mine", 4));
    workload::checkpoint_here();
  });
  MUST(write(pair[0], "his", 3));
  workload::checkpoint_here();
  int passes = 0;
  socklen_t size = sizeof passes;
  MUST(getsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &passes, &size));
  CHECK_EQ(passes, 1);
  for (const pid_t sender : {child, getpid()}) {
    char text[8];
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))];
    iovec data{text, sizeof text};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    CHECK_EQ(MUST(recvmsg(pair[1], &message, 0)), sender == child ? 4 : 3);
    cmsghdr* const head = CMSG_FIRSTHDR(&message);
    CHECK(head != nullptr && head->cmsg_type == SCM_CREDENTIALS);
    ucred from{};
    memcpy(&from, CMSG_DATA(head), sizeof from);
    CHECK_EQ(from.pid, sender);
    CHECK_EQ(from.uid, getuid());
  }
  workload::join(child);
}
