#include "engine/files/unsupported.h"

#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>

#include "engine/files/live_table.h"
#include "engine/files/open_file.h"

namespace dormouse::engine {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

using UnsupportedTest = LiveTable;

TEST_F(UnsupportedTest, AllOfThemAreToldAtOnceWithOwnerAndRemedy) {
  add_child([] {
    place(::socket(AF_INET, SOCK_STREAM, 0), 5);
    ::dup2(5, 6);  // the same open file: told once
    place(::open("/proc/self/ns/net", O_RDONLY), 7);
  });
  EXPECT_FALSE(dump());
  const std::string owner = task().name();
  EXPECT_THAT(blockers(), ElementsAre(AllOf(HasSubstr("descriptor 5 -> socket:["), HasSubstr(owner),
                                            HasSubstr("socket"), HasSubstr("close it before")),
                                      AllOf(HasSubstr("descriptor 7 -> net:["), HasSubstr(owner),
                                            HasSubstr("net namespace"))));
}

TEST(UnsupportedFile, DevicesAreNamedByNumber) {
  Task task;
  task.ns_pid = 8;
  task.comm = "sh";
  OpenFile file;
  file.task = &task;
  file.number = 3;
  file.link = "/dev/kvm";
  file.stat.st_mode = S_IFCHR | 0600;
  file.stat.st_rdev = makedev(10, 232);
  EXPECT_EQ(unsupported_file(file).message(),
            "descriptor 3 -> /dev/kvm of pid 8 (sh): is character device 10:232, whose state only its driver knows "
            "(close it before the checkpoint)");
}

}  // namespace
}  // namespace dormouse::engine
