#include "engine/memory/early_pages.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <xxhash.h>

#include <cstring>

#include "base/format.h"
#include "base/pages.h"
#include "engine/memory/vma_kind.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

constexpr std::size_t kPagesOfChunk = images::kPageChunkBytes / kPage;

// Own memory in which each page has another content, and all that a dump of it needs to know.
class EarlyPagesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    void* const at = ::mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(at, MAP_FAILED);
    memory_ = static_cast<std::byte*>(at);
    for (std::size_t page = 0; page < kPages; ++page) std::memset(memory_ + page * kPage, static_cast<int>(page % 251), kPage);
  }
  void TearDown() override { ::munmap(memory_, kPages * kPage); }

  std::uint64_t address(std::size_t page) const { return reinterpret_cast<std::uint64_t>(memory_) + page * kPage; }
  pb::vma_entry mapping(std::size_t first, std::size_t last, std::uint32_t status = vma_status::kAnonPrivate) const {
    pb::vma_entry vma;
    vma.set_start(address(first));
    vma.set_end(address(last));
    vma.set_prot(PROT_READ);
    vma.set_flags(MAP_PRIVATE | MAP_ANONYMOUS);
    vma.set_status(vma_status::kRegular | status);
    return vma;
  }
  // Pages are present but for a hole of one.
  std::vector<abi::PageRegion> regions() const { return {{address(0), address(10), 0}, {address(11), address(kPages), 0}}; }
  EarlyPages early(int flags = O_RDWR) {
    file_ = sys::memfd_create("pages").value();
    return EarlyPages({"pages-1.img", sys::openat(AT_FDCWD, format("/proc/self/fd/{}", file_.get()), flags).value()},
                      sys::openat(AT_FDCWD, "/proc/self/mem", O_RDONLY).value(), regions_);
  }
  void expect_content(const Chunk& chunk, std::uint64_t sum) const {
    std::vector<std::byte> written(chunk.bytes), wanted;
    ASSERT_TRUE(sys::pread_exactly(file_.get(), written, chunk.offset));
    for (const Piece& piece : chunk.pieces) {
      const auto* from = reinterpret_cast<const std::byte*>(piece.address);
      wanted.insert(wanted.end(), from, from + piece.bytes);
    }
    EXPECT_EQ(written, wanted);
    EXPECT_EQ(sum, XXH64(wanted.data(), wanted.size(), 0));
  }

  static constexpr std::size_t kPages = 3 * kPagesOfChunk;
  std::byte* memory_ = nullptr;
  std::vector<abi::PageRegion> regions_;
  Fd file_;
};

TEST_F(EarlyPagesTest, WholeChunksAreTheBeginningOfTheFile) {
  regions_ = regions();
  EarlyPages pages = early();
  pages.add(mapping(0, 5));
  EXPECT_FALSE(pages.copy_one()) << "a chunk that is not whole";
  pages.add(mapping(5, 70));  // 69 pages: the hole is none
  EXPECT_TRUE(pages.copy_one());
  EXPECT_FALSE(pages.copy_one());
  pages.add(mapping(70, kPages));
  EXPECT_TRUE(pages.copy_one());
  EXPECT_FALSE(pages.copy_one());
  const auto copied = std::move(pages).take();
  ASSERT_EQ(copied.chunks.size(), 2u);
  ASSERT_EQ(copied.sums.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) expect_content(copied.chunks[i], copied.sums[i]);

  std::vector<PageRun> runs;
  RunFinder finder(regions_);
  for (const auto& vma : {mapping(0, 5), mapping(5, 70), mapping(70, kPages)}) finder.add(vma, runs);
  set_apart(runs, {address(7)});
  EXPECT_TRUE(is_beginning(copied.chunks, cut_into_chunks(runs)));
  EXPECT_TRUE(is_beginning({}, cut_into_chunks(runs)));
  EXPECT_FALSE(is_beginning(copied.chunks, {}));
  runs.erase(runs.begin());
  EXPECT_FALSE(is_beginning(copied.chunks, cut_into_chunks(runs)));
}

TEST_F(EarlyPagesTest, NothingIsTakenFromARingThatTheKernelMayStillWrite) {
  regions_ = regions();
  EarlyPages pages = early();
  pages.add(mapping(0, 5));
  pages.add(mapping(5, kPagesOfChunk, vma_status::kAnonPrivate | vma_status::kAioRing));
  pages.add(mapping(kPagesOfChunk, kPages));
  EXPECT_FALSE(pages.copy_one());
  EXPECT_TRUE(std::move(pages).take().chunks.empty());
}

TEST_F(EarlyPagesTest, AFailureEndsIt) {
  regions_ = regions();
  EarlyPages pages = early(O_RDONLY);
  pages.add(mapping(0, kPages));
  EXPECT_FALSE(pages.copy_one());
  pages.add(mapping(0, kPages));
  EXPECT_FALSE(pages.copy_one());
  const auto copied = std::move(pages).take();
  EXPECT_TRUE(copied.chunks.empty());
  EXPECT_TRUE(copied.sums.empty());
}

}  // namespace
}  // namespace dormouse::engine
