#include "engine/files/proc_path.h"

#include <gmock/gmock.h>

#include "engine/files/former_process.h"
#include "engine/files/live_table.h"

namespace dormouse::engine {
namespace {

using testing::HasSubstr;

proc::MountInfo mounted(std::string root, std::string at) {
  proc::MountInfo mount;
  mount.root = std::move(root);
  mount.mount_point = std::move(at);
  return mount;
}

std::string parsed(std::string_view path, const proc::MountInfo& mount = mounted("/", "/proc")) {
  const auto found = parse_proc_path(path, mount);
  return found ? format("{} {}", found->pid, found->file) : "none";
}

TEST(ProcPath, SaysWhoseAFileIs) {
  EXPECT_EQ(parsed("/proc/12/stat"), "12 stat");
  EXPECT_EQ(parsed("/proc/12"), "12 ");
  EXPECT_EQ(parsed("/proc/12/task/13/fd/4"), "12 task/13/fd/4");
  EXPECT_EQ(parsed("/p/12/stat", mounted("/", "/p")), "12 stat");
  EXPECT_EQ(parsed("/x/stat", mounted("/12", "/x")), "12 stat");
  EXPECT_EQ(parsed("/12/stat", mounted("/", "/")), "12 stat");
}

TEST(ProcPath, OtherFilesBelongToNobody) {
  for (const auto* const path : {"/proc", "/proc/", "/proc/sys/12", "/proc/12x/stat", "/proc/-3/stat", "/proc/0/stat",
                                 "/proc/99999999999/stat", "/proc/kmsg"})
    EXPECT_EQ(parsed(path), "none") << path;
  EXPECT_EQ(parsed("/proc/sys/12", mounted("/sys", "/proc/sys")), "none");
}

TEST(ProcPath, WhatAProcessMadeForItselfDoesNotComeBackWithIt) {
  const auto has = [](std::string file) { return every_process_has({12, std::move(file)}); };
  EXPECT_TRUE(has(""));
  EXPECT_TRUE(has("mountinfo"));
  EXPECT_TRUE(has("fd"));
  EXPECT_TRUE(has("task/12/stat"));
  EXPECT_TRUE(has("attr/current"));
  EXPECT_FALSE(has("fdinfo/3"));
  EXPECT_FALSE(has("task/13/stat"));
  EXPECT_FALSE(has("task/12/fd/3"));
  EXPECT_FALSE(has("map_files/400000-401000"));
}

class ProcFilesTest : public LiveTable {
 protected:
  void dump_and_end() {
    ASSERT_TRUE(dump()) << blockers().front();
    end();
    load();
  }
};

pid_t open_gone(const char* name, int number) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::pause();
    ::_exit(0);
  }
  place(::open(format("/proc/{}/{}", pid, name).c_str(), O_RDONLY), number);
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  return pid;
}

TEST_F(ProcFilesTest, OfAProcessThatIsGone) {
  add_child([] { open_gone("mountinfo", 5); });
  dump_and_end();
  const int file = must(reopen(5));
  must(restored().refill());
  EXPECT_EQ(must(sys::readlinkat(AT_FDCWD, format("/proc/self/fd/{}", file))), saved_file(5).reg().name());
  EXPECT_FALSE(read_rest(file).empty());
}

TEST(FormerProcesses, DoNotTakeTheNumberOfAnother) {
  const Child other([] {});
  FormerProcesses former;
  former.note(format("/proc/{}/stat", other.pid()), other.pid());
  const Fd self = must(sys::pidfd_open(::getpid()));
  must(former.appear_for("/proc/1/stat", self.get(), {}));
  const auto appeared = former.appear_for(format("/proc/{}/status", other.pid()), self.get(), {});
  ASSERT_FALSE(appeared);
  EXPECT_THAT(appeared.error().message(), HasSubstr(format("pid {} is taken", other.pid())));
}

TEST_F(ProcFilesTest, OfAProcessOutsideTheTreeAreRefused) {
  const pid_t outsider = ::getpid();
  add_child([=] { place(::open(format("/proc/{}/stat", outsider).c_str(), O_RDONLY), 5); });
  EXPECT_FALSE(dump());
  EXPECT_THAT(blockers().front(), HasSubstr(format("is of process {}, which is not among the tasks", outsider)));
}

TEST_F(ProcFilesTest, OfDescriptorsThatAreClosedAreRefused) {
  add_child([] {
    const int file = ::open("/dev/null", O_RDONLY);
    place(::open(format("/proc/self/fdinfo/{}", file).c_str(), O_RDONLY), 50);
    ::close(file);
  });
  EXPECT_FALSE(dump());
  EXPECT_THAT(blockers().front(), HasSubstr("does not have any more"));
}

TEST(ProcPath, TellsOfADescriptor) {
  for (const char* const path : {"/proc/66/fdinfo/4", "/proc/66/fd/4", "/proc/65/task/66/fdinfo/4", "/mnt/66/fdinfo/4"}) {
    const auto told = descriptor_told_of(path);
    ASSERT_TRUE(told) << path;
    EXPECT_EQ(told->pid, 66);
    EXPECT_EQ(told->number, 4u);
  }
  for (const char* const path : {"", "/", "4", "fdinfo/4", "/proc/66/fdinfo", "/proc/66/fdinfo/", "/proc/x/fd/4", "/proc/66/fd/-1",
                                 "/proc/66/map_files/4", "/proc/66/fdinfo/99999999999"})
    EXPECT_FALSE(descriptor_told_of(path)) << path;
}

}  // namespace
}  // namespace dormouse::engine
