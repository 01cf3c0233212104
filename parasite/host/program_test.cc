#include "parasite/host/program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstring>

namespace dormouse::parasite {
namespace {

Program open_and_dup() {
  Program program;
  const DataRef path = program.text("/dev/null");
  const OpRef opened = program.call("open null", SYS_openat, {AT_FDCWD, path, O_RDWR});
  program.call("to its place", SYS_dup3, {opened, 7, O_CLOEXEC}, exactly(7));
  program.call("", SYS_close, {opened}, ok_or(EBADF));
  return program;
}

TEST(Program, PrintsLikeStrace) {
  EXPECT_EQ(open_and_dup().print(),
            "0: openat(-100, data+0x0, 2)  ; open null\n"
            "1: dup3(result#0, 7, 0x80000) = 0x7  ; to its place\n"
            "2: close(result#0) or errno 9\n");
}

TEST(Program, PlacedDataReferencesBecomeAddresses) {
  const Program program = open_and_dup();
  std::vector<std::byte> area(program.size_bytes());
  program.place(area, 0x10000);
  blob::Op op;
  std::memcpy(&op, area.data() + sizeof(blob::ProgramHeader), sizeof op);
  EXPECT_EQ(op.args[1], 0x10000 + program.data_offset());
  EXPECT_STREQ(reinterpret_cast<const char*>(area.data() + program.data_offset()), "/dev/null");
}

TEST(Program, PointersInsideDataAreResolved) {
  Program program;
  const DataRef vector = program.zeros(16);
  const DataRef target = program.text("x");
  program.point(vector, target);
  std::vector<std::byte> area(program.size_bytes());
  program.place(area, 0x40000);
  std::uint64_t stored = 0;
  std::memcpy(&stored, area.data() + program.data_offset() + vector.offset, 8);
  EXPECT_EQ(stored, 0x40000 + program.data_offset() + target.offset);
}

}  // namespace
}  // namespace dormouse::parasite
