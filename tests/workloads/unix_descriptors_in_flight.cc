#include <fcntl.h>
#include <sys/socket.h>

#include "tests/workloads/workload.h"

static void send_fd(int socket, int fd, char text) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  iovec data{&text, 1};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* const head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(head), &fd, sizeof fd);
  MUST(sendmsg(socket, &message, 0));
}

static int receive_fd(int socket, char text) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  char got = 0;
  iovec data{&got, 1};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  CHECK_EQ(MUST(recvmsg(socket, &message, 0)), 1);
  CHECK_EQ(got, text);
  cmsghdr* const head = CMSG_FIRSTHDR(&message);
  CHECK(head != nullptr && head->cmsg_type == SCM_RIGHTS);
  int fd = -1;
  memcpy(&fd, CMSG_DATA(head), sizeof fd);
  return fd;
}

WORKLOAD("descriptors on their way through a socket arrive: a shared file, a pipe nobody else has, the socket itself") {
  int stream[2], packets[2], ends[2];
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, stream));
  MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets));
  const int file = MUST(open("file", O_RDWR | O_CREAT, 0600));
  MUST(write(file, "0123456789", 10));
  MUST(lseek(file, 3, SEEK_SET));
  send_fd(stream[0], file, 'f');
  MUST(pipe(ends));
  MUST(write(ends[1], "in a pipe", 9));
  send_fd(stream[0], ends[0], 'r');
  send_fd(stream[0], ends[1], 'w');
  close(ends[0]);
  close(ends[1]);
  send_fd(packets[0], stream[1], 's');
  send_fd(packets[0], packets[1], 'p');
  workload::checkpoint_here();
  const int same = receive_fd(stream[1], 'f');
  char got[16] = {};
  CHECK_EQ(MUST(read(same, got, 2)), 2);
  CHECK_EQ(std::string_view(got), "34");
  CHECK_EQ(MUST(lseek(file, 0, SEEK_CUR)), 5);
  const int reader = receive_fd(stream[1], 'r'), writer = receive_fd(stream[1], 'w');
  MUST(write(writer, "!", 1));
  CHECK_EQ(MUST(read(reader, got, sizeof got)), 10);
  CHECK_EQ(std::string_view(got), "in a pipe!");
  const int streamed = receive_fd(packets[1], 's'), itself = receive_fd(packets[1], 'p');
  MUST(write(stream[0], "x", 1));
  CHECK_EQ(MUST(read(streamed, got, 1)), 1);
  MUST(write(packets[0], "yz", 2));
  CHECK_EQ(MUST(read(itself, got, 8)), 2);
}
