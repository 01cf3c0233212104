#include "engine/files/fanotify.h"

#include <gmock/gmock.h>
#include <sys/fanotify.h>
#include <unistd.h>

#include "engine/files/live_table.h"
#include "images/schema/files.pb.h"

namespace dormouse::engine {
namespace {

using testing::HasSubstr;

TEST(Fanotify, GroupsAreParsed) {
  const auto group = parse_fanotify_group("fanotify flags:12 event-flags:88000");
  ASSERT_TRUE(group);
  EXPECT_EQ(group->flags, 0x12u);
  EXPECT_EQ(group->event_flags, 0x88000u);
  for (const char* const line : {"", "fanotify", "fanotify flags:x event-flags:0", "fanotify flags:1", "inotify flags:1 event-flags:0"})
    EXPECT_FALSE(parse_fanotify_group(line)) << line;
}

TEST(Fanotify, MarksOfInodesAreParsed) {
  const auto mark = parse_fanotify_mark(
      "fanotify ino:3c51a sdev:fe00000 mflags:40 mask:22 ignored_mask:1 fhandle-bytes:8 fhandle-type:1 f_handle:1ac5030000000000");
  ASSERT_TRUE(mark && mark->inode);
  EXPECT_FALSE(mark->mount_id);
  EXPECT_EQ(mark->inode->inode, 0x3c51au);
  EXPECT_EQ(mark->inode->device, 0xfe00000u);
  EXPECT_EQ(mark->inode->handle_type, 1);
  EXPECT_EQ(mark->inode->handle, (std::vector<std::uint8_t>{0x1a, 0xc5, 3, 0, 0, 0, 0, 0}));
  EXPECT_EQ(mark->flags, 0x40u);
  EXPECT_EQ(mark->mask, 0x22u);
  EXPECT_EQ(mark->ignored_mask, 1u);
}

TEST(Fanotify, MarksOfMountsAndOthersAreParsed) {
  const auto mount = parse_fanotify_mark("fanotify mnt_id:1f mflags:0 mask:8 ignored_mask:0");
  ASSERT_TRUE(mount);
  EXPECT_EQ(mount->mount_id, 0x1fu);
  EXPECT_FALSE(mount->inode);
  const auto file_system = parse_fanotify_mark("fanotify sdev:fe00000 mflags:0 mask:8 ignored_mask:0");
  ASSERT_TRUE(file_system);
  EXPECT_FALSE(file_system->inode || file_system->mount_id);
  for (const char* const line : {"", "fanotify ", "fanotify mnt_id:1", "fanotify mnt_id:g mask:8 ignored_mask:0", "fanotify mask: ignored_mask:0"})
    EXPECT_FALSE(parse_fanotify_mark(line)) << line;
}

class FanotifyTest : public LiveTable {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs CAP_SYS_ADMIN";
    write_text(scratch / "file", "");
  }
  void mark_in_child(unsigned flags, std::uint64_t mask) {
    add_child([&] {
      place(::fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK, O_RDONLY), 5);
      if (::fanotify_mark(5, FAN_MARK_ADD | flags, mask, AT_FDCWD, (scratch / "file").c_str()) != 0) ::_exit(1);
    });
    ASSERT_TRUE(dump()) << blockers().front();
    end();
    load();
  }
  pb::fanotify_file_entry& record() { return *image.files.at(descriptor(5)->id()).mutable_ffy(); }
};

TEST_F(FanotifyTest, AMarkIsOnTheSameFile) {
  mark_in_child(0, FAN_MODIFY);
  ASSERT_EQ(record().mark_size(), 1);
  EXPECT_EQ(record().mark(0).ie().f_handle().path(), scratch / "file");
  const int fd = must(reopen(5));
  must(restored().refill());
  char buffer[4096];
  EXPECT_EQ(::read(fd, buffer, sizeof buffer), -1) << "restoring is no event";
  write_text(scratch / "file", "x");
  fanotify_event_metadata event;
  ASSERT_EQ(::read(fd, &event, sizeof event), static_cast<ssize_t>(sizeof event));
  EXPECT_EQ(event.mask, static_cast<std::uint64_t>(FAN_MODIFY));
  ::close(event.fd);
}

TEST_F(FanotifyTest, AMountWithoutItsPlaceIsRefused) {
  mark_in_child(FAN_MARK_MOUNT, FAN_OPEN_EXEC);
  EXPECT_EQ(record().mark(0).type(), pb::MOUNT);
  record().mutable_mark(0)->mutable_me()->clear_path();
  must(reopen(5));
  const auto filled = restored().refill();
  ASSERT_FALSE(filled);
  EXPECT_THAT(filled.error().message(), HasSubstr("does not tell where mount"));
}

TEST_F(FanotifyTest, WhatTheKernelDoesNotKnowIsRefused) {
  mark_in_child(0, FAN_MODIFY);
  record().mutable_mark(0)->set_mask(0xffffffff);
  must(reopen(5));
  EXPECT_THAT(restored().refill().error().message(), HasSubstr("fanotify_mark"));
  load();
  record().set_faflags(0xffffffff);
  EXPECT_THAT(reopen(5).error().message(), HasSubstr("fanotify_init"));
}

}  // namespace
}  // namespace dormouse::engine
