#include "engine/files/memfd.h"

#include <gmock/gmock.h>
#include <sys/mman.h>

#include "engine/files/live_table.h"
#include "engine/files/open_file.h"

namespace dormouse::engine {
namespace {

using testing::HasSubstr;

class MemfdTest : public LiveTable {
 protected:
  void dump_and_end() {
    ASSERT_TRUE(dump()) << blockers().front();
    objects_ = saved().memory_objects().size();
    end();
    load();
    auto reader = must(image_reader(images::kMemfdInode));
    pb::memfd_inode_entry inode;
    while (must(reader.next(inode))) image.memfds[inode.inode_id()] = inode;
  }
  // A memfd as 5, and opened again, read-only, as 6.
  static void open_twice() {
    place(::memfd_create("a name", MFD_ALLOW_SEALING), 5);
    (void)!::write(5, "content", 7);
    ::fcntl(5, F_ADD_SEALS, F_SEAL_GROW);
    place(::open("/proc/self/fd/5", O_RDONLY), 6);
    ::lseek(6, 3, SEEK_SET);
  }
  std::size_t objects_ = 0;
};

TEST_F(MemfdTest, OneObjectHasARecordForEachOpening) {
  add_child(open_twice);
  dump_and_end();
  ASSERT_EQ(image.memfds.size(), 1u);
  EXPECT_EQ(objects_, 1u);
  const pb::memfd_inode_entry& inode = image.memfds.begin()->second;
  EXPECT_EQ(inode.name(), "a name");
  EXPECT_EQ(inode.size(), 7u);
  EXPECT_EQ(inode.seals(), static_cast<std::uint32_t>(F_SEAL_GROW));
  EXPECT_FALSE(inode.has_hugetlb_flag());
  EXPECT_EQ(saved_file(5).memfd().inode_id(), saved_file(6).memfd().inode_id());
  EXPECT_NE(saved_file(5).id(), saved_file(6).id());
  EXPECT_EQ(saved_file(6).memfd().pos(), 3u);
}

TEST_F(MemfdTest, TheObjectComesBackOnceAndIsSealedLast) {
  add_child(open_twice);
  dump_and_end();
  const int writer = must(reopen(5)), reader = must(reopen(6));
  EXPECT_EQ(must(sys::fstat(writer)).st_ino, must(sys::fstat(reader)).st_ino);
  EXPECT_EQ(must(sys::fstat(reader)).st_size, 7);
  EXPECT_EQ(must(sys::fcntl(reader, F_GETFL)) & O_ACCMODE, O_RDONLY);
  EXPECT_EQ(::lseek(writer, 0, SEEK_CUR), 7);
  EXPECT_EQ(::lseek(reader, 0, SEEK_CUR), 3);
  EXPECT_EQ(::fcntl(writer, F_GET_SEALS), 0);
  must(restored().refill());
  EXPECT_EQ(::fcntl(writer, F_GET_SEALS), F_SEAL_GROW);
}

TEST_F(MemfdTest, WithoutItsObjectAFileCannotBeOpened) {
  add_child(open_twice);
  dump_and_end();
  image.memfds.clear();
  const auto opened = reopen(5);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().kind(), Error::Kind::kCorruptImage);
}

TEST_F(MemfdTest, PagesBehindTheEndAreCorrupt) {
  add_child(open_twice);
  dump_and_end();
  pb::memfd_inode_entry& inode = image.memfds.begin()->second;
  image.shmem[inode.shmid()].pages = {{0, 0x2000, 4, true}};
  const auto opened = reopen(5);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message(), HasSubstr("beyond the object"));
}

TEST_F(MemfdTest, AnOrdinaryFileOfThatNameIsNone) {
  OpenFile file;
  file.link = "/memfd:x (deleted)";
  file.stat.st_mode = S_IFREG;
  EXPECT_FALSE(MemfdFile().matches(file)) << "of a file system of a disk";
}

}  // namespace
}  // namespace dormouse::engine
