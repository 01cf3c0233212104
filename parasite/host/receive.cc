#include "parasite/host/receive.h"

#include <sys/socket.h>
#include <sys/syscall.h>

namespace dormouse::parasite {

DataRef append_receive(Program& program, int socket, std::size_t count) {
  // struct user_msghdr, with pointers filled in when the program is placed.
  struct Header {
    std::uint64_t name, name_length, vectors, vector_count, control, control_length;
    std::int32_t flags, pad;
  };
  const std::size_t control_bytes = CMSG_SPACE(count * sizeof(int));
  const DataRef byte = program.zeros(8);
  const std::uint64_t vector_value[2] = {0, 1};
  const DataRef vector = program.value(vector_value);
  program.point(vector, byte);
  const DataRef control = program.zeros(control_bytes);
  const DataRef header = program.value(Header{0, 0, 0, 1, 0, control_bytes, 0, 0});
  program.point(header + offsetof(Header, vectors), vector);
  program.point(header + offsetof(Header, control), control);
  program.call("receive descriptors", SYS_recvmsg, {socket, header, 0}, exactly(1));
  return control + CMSG_LEN(0);
}

}  // namespace dormouse::parasite
