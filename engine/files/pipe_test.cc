#include "engine/files/pipe.h"

#include <gmock/gmock.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "engine/files/live_table.h"

namespace dormouse::engine {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

int flags_of(int fd) { return must(sys::fcntl(fd, F_GETFL)); }

std::string read_now(int fd, std::size_t bytes) {
  std::string text(bytes, '\0');
  const auto got = sys::read(fd, std::as_writable_bytes(std::span(text)));
  text.resize(got ? *got : 0);
  return text;
}

class PipeTest : public LiveTable {
 protected:
  void dump_and_end() {
    ASSERT_TRUE(dump()) << blockers().front();
    end();
    load();
  }
};

TEST_F(PipeTest, BothEndsAndTheContentComeBack) {
  Child& child = add_child([] {
    int ends[2];
    (void)!::pipe2(ends, O_NONBLOCK);
    place(ends[0], 5);
    place(ends[1], 6);
    ::fcntl(5, F_SETPIPE_SZ, 128 << 10);
    (void)!::write(6, "in flight", 9);
  });
  ASSERT_TRUE(dump()) << blockers().front();
  {
    const Fd pidfd = must(sys::pidfd_open(child.pid()));
    const Fd original = must(sys::pidfd_getfd(pidfd.get(), 5));
    EXPECT_EQ(read_now(original.get(), 100), "in flight") << "the victim keeps it";
  }
  end();
  load();
  EXPECT_EQ(saved_file(5).pipe().pipe_id(), saved_file(6).pipe().pipe_id());
  const int reader = must(reopen(5)), writer = must(reopen(6));
  must(restored().refill());
  EXPECT_EQ(flags_of(reader) & (O_ACCMODE | O_NONBLOCK), O_RDONLY | O_NONBLOCK);
  EXPECT_EQ(flags_of(writer) & (O_ACCMODE | O_NONBLOCK), O_WRONLY | O_NONBLOCK);
  EXPECT_EQ(must(sys::fcntl(reader, F_GETPIPE_SZ)), 128 << 10);
  EXPECT_EQ(read_now(reader, 100), "in flight");
  must(sys::write_all(writer, std::string_view("more")));
  EXPECT_EQ(read_now(reader, 100), "more");
}

TEST_F(PipeTest, AFullPipeComesBackFull) {
  add_child([] {
    int ends[2];
    (void)!::pipe2(ends, O_NONBLOCK);
    place(ends[0], 5);
    place(ends[1], 6);
    const std::string page(4096, 'p');
    while (::write(6, page.data(), page.size()) > 0) {
    }
  });
  dump_and_end();
  const int reader = must(reopen(5));
  must(reopen(6));
  must(restored().refill());
  int held = 0;
  must(sys::ioctl(reader, FIONREAD, &held));
  EXPECT_EQ(held, 65536);
}

TEST_F(PipeTest, MoreOpenFilesForOneEnd) {
  add_child([] {
    int ends[2];
    (void)!::pipe2(ends, 0);
    place(ends[0], 5);
    place(ends[1], 6);
    place(::open("/proc/self/fd/6", O_WRONLY | O_NONBLOCK), 7);
    place(::open("/proc/self/fd/5", O_RDWR), 8);
  });
  dump_and_end();
  for (const int number : {8, 7, 6, 5}) must(reopen(number));  // in whatever order
  EXPECT_EQ(flags_of(must(reopen(6))) & O_NONBLOCK, 0);
  EXPECT_EQ(flags_of(must(reopen(7))) & (O_ACCMODE | O_NONBLOCK), O_WRONLY | O_NONBLOCK);
  EXPECT_EQ(flags_of(must(reopen(8))) & O_ACCMODE, O_RDWR);
  must(sys::write_all(must(reopen(7)), std::string_view("7")));
  must(sys::write_all(must(reopen(8)), std::string_view("8")));
  EXPECT_EQ(read_now(must(reopen(5)), 10), "78");
}

TEST_F(PipeTest, EndsInDifferentTasks) {
  int ends[2];
  (void)!::pipe2(ends, O_CLOEXEC);
  const int high[2] = {::fcntl(ends[0], F_DUPFD, 950), ::fcntl(ends[1], F_DUPFD, 950)};
  for (int side = 0; side < 2; ++side)
    add_child([&] {
      const Fd parent = must(sys::pidfd_open(::getppid()));
      ::dup2(must(sys::pidfd_getfd(parent.get(), high[side])).get(), 5);
    });
  for (const int fd : {ends[0], ends[1], high[0], high[1]}) ::close(fd);
  dump_and_end();
  must(sys::write_all(must(reopen(5, 2)), std::string_view("across")));
  EXPECT_EQ(read_now(must(reopen(5, 1)), 10), "across");
}

TEST_F(PipeTest, OneOpenFileMayDifferForReaders) {
  // A container's stdout: the read end is outside of the tree.
  int ends[2];
  (void)!::pipe2(ends, O_CLOEXEC);
  const int high = ::fcntl(ends[1], F_DUPFD, 950);
  add_child([&] {
    const Fd parent = must(sys::pidfd_open(::getppid()));
    ::dup2(must(sys::pidfd_getfd(parent.get(), high)).get(), 1);
  });
  const auto inode = must(sys::fstat(ends[0])).st_ino;
  ::close(high);
  ::close(ends[1]);
  dump_and_end();
  EXPECT_EQ(saved_file(1).pipe().pipe_id(), inode);

  const sys::Pipe other = must(sys::pipe2());
  restore_options.inherited = {{format("pipe:[{}]", inode), other.write_end.get()}};
  const int out = must(reopen(1));
  must(restored().refill());
  must(sys::write_all(out, std::string_view("to the new reader")));
  EXPECT_EQ(read_now(other.read_end.get(), 100), "to the new reader");
  must(sys::fcntl(out, F_SETFL, O_NONBLOCK));
  EXPECT_EQ(flags_of(other.write_end.get()) & O_NONBLOCK, 0) << "the caller's flags are its own";
  ::close(ends[0]);
}

TEST_F(PipeTest, ASocketMayTakeAPipesPlace) {
  add_child([] {
    int ends[2];
    (void)!::pipe2(ends, 0);
    ::close(ends[0]);
    place(ends[1], 1);
  });
  dump_and_end();
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  restore_options.inherited = {{format("pipe:[{}]", saved_file(1).pipe().pipe_id()), pair[0]}};
  must(sys::write_all(must(reopen(1)), std::string_view("x")));
  EXPECT_EQ(read_now(pair[1], 10), "x");
  ::close(pair[0]);
  ::close(pair[1]);
}

TEST_F(PipeTest, PacketModeIsSavedOnlyWithoutContent) {
  add_child([] {
    int ends[2];
    (void)!::pipe2(ends, O_DIRECT);
    place(ends[0], 5);
    place(ends[1], 6);
    (void)!::pipe2(ends, O_DIRECT);
    place(ends[0], 7);
    place(ends[1], 8);
    (void)!::write(8, "packet", 6);
  });
  EXPECT_FALSE(dump());
  EXPECT_THAT(blockers(), ElementsAre(AllOf(HasSubstr("descriptor 8 -> pipe:["), HasSubstr("packet mode"),
                                            HasSubstr("(victim)"))));
  load();
  EXPECT_NE(flags_of(must(reopen(6))) & O_DIRECT, 0);
}

TEST_F(PipeTest, FifosComeBackWithoutBlocking) {
  const std::string path = scratch / "fifo";
  ::mkfifo(path.c_str(), 0644);
  add_child([&] {
    place(::open(path.c_str(), O_RDWR), 5);
    place(::open(path.c_str(), O_WRONLY), 6);
    place(::open(path.c_str(), O_RDONLY), 7);
    (void)!::write(6, "queued", 6);
  });
  dump_and_end();
  EXPECT_EQ(image.files.at(saved_file(6).fifo().regf_id()).reg().name(), path);
  const int reader = must(reopen(7)), writer = must(reopen(6));
  must(restored().refill());
  EXPECT_EQ(flags_of(reader) & (O_ACCMODE | O_NONBLOCK), O_RDONLY);
  EXPECT_EQ(flags_of(writer) & (O_ACCMODE | O_NONBLOCK), O_WRONLY);
  EXPECT_EQ(read_now(reader, 100), "queued");
}

TEST_F(PipeTest, DeletedFifosComeBack) {
  const std::string path = scratch / "fifo";
  ::mkfifo(path.c_str(), 0600);
  add_child([&] {
    place(::open(path.c_str(), O_RDWR), 5);
    ::unlink(path.c_str());
    (void)!::write(5, "queued", 6);
  });
  dump_and_end();
  const int both = must(reopen(5));
  must(restored().refill());
  EXPECT_EQ(read_now(both, 100), "queued");
}

TEST_F(PipeTest, ContentThatDoesNotFitIsRefused) {
  PipeContents::Content content{4096, std::vector<std::byte>(5000)};
  const sys::Pipe pipe = must(sys::pipe2());
  const auto filled = fill_pipe(pipe.write_end.get(), content);
  ASSERT_FALSE(filled);
  EXPECT_EQ(filled.error().kind(), Error::Kind::kCorruptImage);
}

}  // namespace
}  // namespace dormouse::engine
