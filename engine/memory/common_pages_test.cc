#include "engine/memory/common_pages.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include <cstring>
#include <functional>

#include "base/format.h"
#include "base/pages.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

constexpr std::size_t kPages = 300;  // more than a chunk

std::uint64_t number(const void* at) { return reinterpret_cast<std::uint64_t>(at); }

// A child that has changed some of the memory it has inherited, and waits.
class Child {
 public:
  explicit Child(const std::function<void()>& change) {
    int ready[2];
    if (::pipe2(ready, O_CLOEXEC) != 0) std::abort();
    pid_ = ::fork();
    if (pid_ == 0) {
      change();
      (void)!::write(ready[1], "", 1);
      for (;;) ::pause();
    }
    char byte;
    EXPECT_EQ(::read(ready[0], &byte, 1), 1);
    ::close(ready[0]);
    ::close(ready[1]);
  }
  Child(const Child&) = delete;
  ~Child() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
};

// One process's pages and where they go.
struct Saved {
  Saved(pid_t pid, std::vector<PageRun> which) : runs(std::move(which)) {
    memory = sys::openat(AT_FDCWD, format("/proc/{}/mem", pid), O_RDONLY).value();
    pagemap = sys::openat(AT_FDCWD, format("/proc/{}/pagemap", pid), O_RDONLY).value();
    file.fd = sys::memfd_create("pages").value();
  }
  PageSource source() const {
    return {.name = "somebody", .memory = memory.get(), .pagemap = pagemap.get(), .runs = runs, .to = &file};
  }
  std::uint64_t bytes() const {
    std::uint64_t total = 0;
    for (const PageRun& run : runs) total += run.end - run.start;
    return total;
  }
  // The file has what the memory has, and the sums are those of its chunks.
  void check(const std::vector<std::uint64_t>& sums) const {
    std::vector<std::byte> content(bytes());
    ASSERT_TRUE(sys::pread_exactly(file.fd.get(), content, 0));
    std::vector<std::byte> page(kPage);
    auto at = content.begin();
    for (const PageRun& run : runs)
      for (std::uint64_t address = run.start; address < run.end; address += kPage, at += kPage) {
        ASSERT_TRUE(sys::pread_exactly(memory.get(), page, address));
        ASSERT_EQ(std::memcmp(&*at, page.data(), kPage), 0) << format("page at {:#x}", address);
      }
    ASSERT_EQ(sums.size(), (content.size() + images::kPageChunkBytes - 1) / images::kPageChunkBytes);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      const std::size_t offset = i * images::kPageChunkBytes;
      EXPECT_EQ(sums[i], XXH64(content.data() + offset, std::min(images::kPageChunkBytes, content.size() - offset), 0));
    }
  }

  Fd memory, pagemap;
  std::vector<PageRun> runs;
  images::PageFile file;
};

class CommonPages : public testing::Test {
 protected:
  CommonPages() {
    memory_ = static_cast<std::byte*>(::mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ::madvise(memory_, kPages * kPage, MADV_NOHUGEPAGE);
    for (std::size_t i = 0; i < kPages; ++i) change(i, 1);
  }
  ~CommonPages() override { ::munmap(memory_, kPages * kPage); }
  void change(std::size_t page, int content) { std::memset(memory_ + page * kPage, content + static_cast<int>(page % 200), kPage); }
  PageRun run(std::size_t from, std::size_t to) const {
    return {.start = number(memory_ + from * kPage), .end = number(memory_ + to * kPage)};
  }

  std::byte* memory_;
};

TEST_F(CommonPages, EachHasItsOwnContent) {
  const Child same([] {});
  const Child changed([&] { change(5, 90), change(100, 91), change(kPages - 1, 92); });
  // What comes first in its file is not in the others': nothing stands at the same place.
  const Child shifted([&] { change(3, 93); });
  std::vector<Saved> all;
  for (const pid_t pid : {same.pid(), changed.pid()}) all.emplace_back(pid, std::vector{run(10, kPages)});
  all.emplace_back(shifted.pid(), std::vector{run(3, 8), run(20, 150), run(151, kPages)});
  std::vector<PageSource> sources;
  for (const Saved& each : all) sources.push_back(each.source());
  const auto sums = copy_common(sources);
  ASSERT_TRUE(sums) << sums.error().message();
  for (std::size_t i = 0; i < all.size(); ++i) all[i].check((*sums)[i]);
}

TEST_F(CommonPages, WhoHasNothingInCommonIsLeftOut) {
  const Child same([] {});
  const Child stranger([&] {
    for (std::size_t i = 0; i < kPages; ++i) change(i, 7);
  });
  const Child brother([&] { change(9, 90); });
  std::vector<Saved> all;
  for (const pid_t pid : {same.pid(), stranger.pid(), brother.pid()}) all.emplace_back(pid, std::vector{run(0, kPages)});
  std::vector<PageSource> sources;
  for (const Saved& each : all) sources.push_back(each.source());
  EXPECT_EQ(find_common(sources), (std::vector<std::vector<std::size_t>>{{0, 2}}));
  EXPECT_TRUE(find_common(std::span(sources).first(2)).empty());
  // Asked for all the same, it is slow, but right.
  const auto sums = copy_common(sources);
  ASSERT_TRUE(sums) << sums.error().message();
  for (std::size_t i = 0; i < all.size(); ++i) all[i].check((*sums)[i]);
}

TEST_F(CommonPages, PagesThatAreGoneAreAnError) {
  const Child one([] {}), other([&] { ::munmap(memory_ + 50 * kPage, kPage); });
  std::vector<Saved> all;
  for (const pid_t pid : {one.pid(), other.pid()}) all.emplace_back(pid, std::vector{run(0, kPages)});
  const std::vector<PageSource> sources{all[0].source(), all[1].source()};
  const auto sums = copy_common(sources);
  ASSERT_FALSE(sums);
  EXPECT_NE(sums.error().message().find("somebody"), std::string::npos) << sums.error().message();
}

}  // namespace
}  // namespace dormouse::engine
