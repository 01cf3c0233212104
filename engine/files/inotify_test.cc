#include "engine/files/inotify.h"

#include <gmock/gmock.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <functional>

#include "engine/files/live_table.h"
#include "engine/files/saver.h"
#include "engine/files/watched_inode.h"
#include "images/schema/event_files.pb.h"
#include "kernel/event_files.h"

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

InotifyWatch watch_of(const std::string& path) {
  const Fd inotify = must(sys::inotify_init());
  must(sys::inotify_add_watch(inotify.get(), path, IN_MODIFY));
  std::string text = must(sys::read_file(AT_FDCWD, format("/proc/self/fdinfo/{}", inotify.get())));
  text = text.substr(text.find("inotify "));
  return *parse_inotify_watch(text.substr(0, text.find('\n')));
}

// Where the file system cannot be asked by handle: here, because no mount is its.
TEST(WatchedInode, IsSearchedForWhereTheCallerSays) {
  Child child([] {});
  Tree tree;
  tree.tasks.push_back(child.take_task());
  TemporaryDirectory images, scratch;
  NullLog log;
  Blockers blockers;
  CheckpointOptions options;
  auto out = must(images::OutputDirectory::open(images.fd()));
  DumpContext context{options, log, out, tree, blockers};
  const MountTable mounts = must(MountTable::of("21 1 0:99 / / rw - none none rw\n"));
  const auto saver = must(FilesSaver::create(context, mounts));
  must(sys::mkdirat(AT_FDCWD, scratch / "a", 0755));
  must(sys::mkdirat(AT_FDCWD, scratch / "a/b", 0755));
  write_text(scratch / "a/other", "");
  write_text(scratch / "a/b/file", "");

  const InotifyWatch file = watch_of(scratch / "a/b/file"), directory = watch_of(scratch / "a/b");
  EXPECT_EQ(must(path_of_watched(file, *saver)), std::nullopt);
  options.irmap_scan_paths = {"/no/such/directory", scratch / "a"};
  EXPECT_EQ(must(path_of_watched(file, *saver)), scratch / "a/b/file");
  EXPECT_EQ(must(path_of_watched(directory, *saver)), scratch / "a/b");
  must(sys::unlinkat(AT_FDCWD, scratch / "a/b/file"));
  EXPECT_EQ(must(path_of_watched(file, *saver)), std::nullopt);
}

class InotifyTest : public LiveTable {
 protected:
  // Makes the file; a child that watched it by descriptor 5 is saved, and gone.
  void save_watch_of(const std::string& file) {
    write_text(file, "");
    add_child([&] {
      place(::inotify_init1(IN_NONBLOCK), 5);
      ::inotify_add_watch(5, file.c_str(), IN_MODIFY);
    });
    ASSERT_TRUE(dump()) << blockers().front();
    end();
  }
  void load_watch_of(const std::string& file) {
    save_watch_of(file);
    load();
  }
  // As the reference engine saves it: the handle only. `change` may do more.
  void forget_paths(const std::function<void(pb::inotify_wd_entry&)>& change = {}) {
    for (auto& watch : *image.files.at(descriptor(5)->id()).mutable_ify()->mutable_wd()) {
      watch.mutable_f_handle()->clear_path();
      if (change) change(watch);
    }
  }
};

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
  load_watch_of(file);
  ::unlink(file.c_str());
  must(reopen(5));
  const auto filled = restored().refill();
  ASSERT_FALSE(filled);
  EXPECT_THAT(filled.error().message(), testing::HasSubstr(file));
}

TEST_F(InotifyTest, AHandleAloneLeadsToTheFile) {
  const std::string file = scratch / "file";
  load_watch_of(file);
  forget_paths();
  const int fd = must(reopen(5));
  must(restored().refill());
  write_text(file, "x");
  char buffer[4096];
  EXPECT_GT(::read(fd, buffer, sizeof buffer), 0);
}

TEST_F(InotifyTest, AHandleOfAFileThatIsGoneIsRefused) {
  const std::string file = scratch / "file";
  load_watch_of(file);
  ::unlink(file.c_str());
  forget_paths();
  must(reopen(5));
  const auto filled = restored().refill();
  ASSERT_FALSE(filled);
  EXPECT_THAT(filled.error().message(), testing::HasSubstr("does not tell the path of the watched inode"));
}

TEST_F(InotifyTest, AHandleOfAnImpossibleLengthIsRefused) {
  save_watch_of(scratch / "file");
  for (const std::uint32_t length : {129u, 4'000'000'000u}) {
    load();
    forget_paths([&](pb::inotify_wd_entry& watch) { watch.mutable_f_handle()->set_bytes(length); });
    must(reopen(5));
    const auto filled = restored().refill();
    ASSERT_FALSE(filled);
    EXPECT_THAT(filled.error().message(), testing::HasSubstr(format("a file handle of {} bytes", length)));
  }
}

TEST_F(InotifyTest, DeletedFilesAreWatchedAsTheTasksHoldThem) {
  const std::string file = scratch / "file";
  add_child([&] {
    place(::inotify_init1(IN_NONBLOCK), 5);
    for (const int number : {6, 7}) {
      place(::open(file.c_str(), O_CREAT | O_RDWR, 0644), number);
      ::inotify_add_watch(5, file.c_str(), IN_MODIFY);
      ::unlink(file.c_str());
    }
  });
  ASSERT_TRUE(dump()) << blockers().front();
  end();
  load();
  const int fd = must(reopen(5)), second = must(reopen(7));
  must(reopen(6));
  must(restored().refill());
  (void)!::write(second, "x", 1);
  ::inotify_event event;
  ASSERT_EQ(::read(fd, &event, sizeof event), static_cast<ssize_t>(sizeof event));
  EXPECT_EQ(event.wd, 2);
  EXPECT_EQ(::read(fd, &event, sizeof event), -1);
}

TEST_F(InotifyTest, ADeletedFileThatOnlyOthersHoldIsRefused) {
  const std::string file = scratch / "file";
  write_text(file, "");
  const Fd outside = must(sys::openat(AT_FDCWD, file, O_RDONLY));
  add_child([&] {
    place(::inotify_init1(IN_NONBLOCK), 5);
    ::inotify_add_watch(5, file.c_str(), IN_MODIFY);
    ::unlink(file.c_str());
  });
  EXPECT_FALSE(dump());
  EXPECT_THAT(blockers(), testing::ElementsAre(testing::HasSubstr("whose path could not be found")));
}

}  // namespace
}  // namespace dormouse::engine
