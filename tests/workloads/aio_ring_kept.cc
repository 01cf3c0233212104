// bits: 64 32
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

namespace {

void submit(aio_context_t context, int fd, std::uint64_t number) {
  static char byte;
  iocb request{};
  request.aio_lio_opcode = IOCB_CMD_PWRITE;
  request.aio_fildes = static_cast<std::uint32_t>(fd);
  request.aio_buf = reinterpret_cast<std::uint64_t>(&byte);
  request.aio_nbytes = 1;
  request.aio_data = number;
  iocb* list = &request;
  CHECK_EQ(MUST(syscall(SYS_io_submit, context, 1, &list)), 1);
}

std::uint64_t take(aio_context_t context) {
  io_event event{};
  timespec now{};
  CHECK_EQ(MUST(syscall(SYS_io_getevents, context, 0, 1, &event, &now)), 1);
  CHECK_EQ(event.res, 1);
  return event.data;
}

bool is_empty(aio_context_t context) {
  io_event event{};
  timespec now{};
  return MUST(syscall(SYS_io_getevents, context, 0, 1, &event, &now)) == 0;
}

}  // namespace

WORKLOAD("contexts of asynchronous I/O keep their names and the events in them, and take as many requests as before") {
  const int fd = MUST(open("/dev/null", O_WRONLY));
  aio_context_t fresh = 0, used = 0, round = 0;
  MUST(syscall(SYS_io_setup, 7, &fresh));
  MUST(syscall(SYS_io_setup, 300, &used));
  MUST(syscall(SYS_io_setup, 10, &round));
  for (std::uint64_t i = 0; i < 20; ++i) submit(used, fd, i);
  for (std::uint64_t i = 0; i < 5; ++i) CHECK_EQ(take(used), i);
  // Up to the end of the ring and around, with some of them not taken.
  const std::uint32_t events = reinterpret_cast<std::uint32_t*>(round)[1];
  for (std::uint64_t i = 0; i < events - 5; ++i) {
    submit(round, fd, i);
    CHECK_EQ(take(round), i);
  }
  for (std::uint64_t i = 0; i < 8; ++i) submit(round, fd, 1000 + i);
  CHECK(reinterpret_cast<std::uint32_t*>(round)[3] < reinterpret_cast<std::uint32_t*>(round)[2]);

  workload::checkpoint_here();

  CHECK(is_empty(fresh));
  for (std::uint64_t i = 5; i < 20; ++i) CHECK_EQ(take(used), i);
  CHECK(is_empty(used));
  for (std::uint64_t i = 0; i < 8; ++i) CHECK_EQ(take(round), 1000 + i);
  CHECK(is_empty(round));
  for (const aio_context_t context : {fresh, used, round}) {
    for (std::uint64_t i = 0; i < 3 * events; ++i) {
      submit(context, fd, i);
      CHECK_EQ(take(context), i);
    }
    MUST(syscall(SYS_io_destroy, context));
  }
}
