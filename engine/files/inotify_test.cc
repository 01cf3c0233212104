#include "engine/files/inotify.h"

#include <gmock/gmock.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "engine/files/live_table.h"
#include "engine/files/watched_inode.h"

namespace dormouse::engine {
namespace {

TEST(InotifyWatch, IsParsed) {
  const auto watch = parse_inotify_watch(
      "inotify wd:a ino:3c51a sdev:fe00000 mask:102 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:1ac5030000000000");
  ASSERT_TRUE(watch);
  EXPECT_EQ(watch->number, 10u);
  EXPECT_EQ(watch->inode, 0x3c51au);
  EXPECT_EQ(watch->device, 0xfe00000u);
  EXPECT_EQ(watch->mask, 0x102u);
  EXPECT_EQ(watch->handle, (std::vector<std::uint8_t>{0x1a, 0xc5, 3, 0, 0, 0, 0, 0}));
  EXPECT_FALSE(parse_inotify_watch("inotify wd:x"));
  EXPECT_FALSE(parse_inotify_watch("pos:\t0"));
}

class InotifyTest : public LiveTable {};

TEST_F(InotifyTest, WatchesKeepTheirNumbers) {
  const std::string file = scratch / "file", directory = scratch / "directory";
  write_text(file, "");
  ::mkdir(directory.c_str(), 0755);
  add_child([&] {
    place(::inotify_init1(IN_NONBLOCK), 5);
    const int dropped = ::inotify_add_watch(5, scratch.path().c_str(), IN_CREATE);
    ::inotify_add_watch(5, file.c_str(), IN_MODIFY);
    ::inotify_rm_watch(5, dropped);
    ::inotify_add_watch(5, directory.c_str(), IN_CREATE);
    char events[4096];
    (void)!::read(5, events, sizeof events);
    place(::open(file.c_str(), O_RDONLY), 6);
    place(::open(directory.c_str(), O_RDONLY), 7);
  });
  ASSERT_TRUE(dump()) << blockers().front();
  end();
  load();
  const auto& watches = saved_file(5).ify().wd();
  ASSERT_EQ(watches.size(), 2);
  EXPECT_GE(watches[0].f_handle().handle_size(), 16);

  const int fd = must(reopen(5));
  must(reopen(6));
  must(restored().refill());
  char buffer[4096];
  EXPECT_EQ(::read(fd, buffer, sizeof buffer), -1) << "restoring is no event";
  write_text(file, "x");
  write_text(directory + "/new", "");
  std::map<int, std::uint32_t> masks;
  const ssize_t got = ::read(fd, buffer, sizeof buffer);
  for (ssize_t at = 0; at < got;) {
    ::inotify_event event;
    std::memcpy(&event, buffer + at, sizeof event);
    masks[event.wd] |= event.mask;
    at += static_cast<ssize_t>(sizeof event + event.len);
  }
  EXPECT_EQ(masks, (std::map<int, std::uint32_t>{{2, IN_MODIFY}, {3, IN_CREATE}}));
}

TEST_F(InotifyTest, AWatchedFileThatIsGoneIsNamed) {
  const std::string file = scratch / "file";
  write_text(file, "");
  add_child([&] {
    place(::inotify_init1(0), 5);
    ::inotify_add_watch(5, file.c_str(), IN_MODIFY);
  });
  ASSERT_TRUE(dump()) << blockers().front();
  end();
  load();
  ::unlink(file.c_str());
  must(reopen(5));
  const auto filled = restored().refill();
  ASSERT_FALSE(filled);
  EXPECT_THAT(filled.error().message(), testing::HasSubstr(file));
}

}  // namespace
}  // namespace dormouse::engine
