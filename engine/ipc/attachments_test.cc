#include "engine/ipc/attachments.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include "engine/memory/vma_kind.h"

namespace dormouse::engine {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::uint64_t kBase = 0x7000'0000, kRoom = 0x10'0000'0000;

class Attachments : public ::testing::Test {
 protected:
  Attachments() {
    pb::ipc_shm_entry& entry = image_.segments[5].entry;
    entry.mutable_desc()->set_id(5);
    entry.mutable_desc()->set_mode(0600);
    entry.set_size(4 * 4096 - 1);
    image_.tasks.emplace_back().mm.emplace();
  }
  void attach(std::uint64_t start, std::uint64_t end, std::uint64_t offset, std::uint32_t prot) {
    pb::vma_entry& vma = *image_.tasks[0].mm->add_vmas();
    vma.set_start(start);
    vma.set_end(end);
    vma.set_pgoff(offset);
    vma.set_prot(prot);
    vma.set_shmid(5);
    vma.set_fdflags(O_RDWR);
    vma.set_status(vma_status::kRegular | vma_status::kAnonShared | vma_status::kSysvIpc);
  }
  std::string program() const {
    parasite::Program program;
    append_attachments(program, image_, *image_.tasks[0].mm, kRoom);
    return program.print();
  }
  Image image_;
};

TEST_F(Attachments, AWholeOneGoesToItsPlaceAtOnce) {
  attach(kBase, kBase + 0x4000, 0, PROT_READ | PROT_WRITE);
  EXPECT_EQ(attaching_bytes(image_), 0u);
  EXPECT_THAT(program(), HasSubstr("shmat"));
  EXPECT_THAT(program(), Not(HasSubstr("mremap")));
  EXPECT_THAT(program(), Not(HasSubstr("mprotect")));
}

TEST_F(Attachments, ProtectionInPartsIsStillAWholeOne) {
  attach(kBase, kBase + 0x1000, 0, PROT_READ | PROT_WRITE);
  attach(kBase + 0x1000, kBase + 0x4000, 0x1000, PROT_READ);
  EXPECT_EQ(attaching_bytes(image_), 0u);
  EXPECT_THAT(program(), Not(HasSubstr("mremap")));
  EXPECT_THAT(program(), HasSubstr("mprotect"));
}

TEST_F(Attachments, PiecesAreMovedOutOfOneAttachment) {
  attach(kBase + 0x1000, kBase + 0x2000, 0x1000, PROT_READ | PROT_WRITE);
  attach(kBase + 0x3000, kBase + 0x4000, 0x3000, PROT_READ | PROT_WRITE);
  EXPECT_EQ(attaching_bytes(image_), 0x4000u);
  const std::string text = program();
  EXPECT_EQ(text.find("shmat"), text.rfind("shmat"));
  EXPECT_NE(text.find("mremap"), text.rfind("mremap"));
  EXPECT_THAT(text, HasSubstr("munmap"));
}

TEST_F(Attachments, ARemovedSegmentIsRemovedAgain) {
  parasite::Program program;
  append_removals(program, image_);
  EXPECT_TRUE(program.empty());
  image_.segments[5].entry.mutable_desc()->set_mode(kSegmentRemoved | 0600);
  append_removals(program, image_);
  EXPECT_THAT(program.print(), HasSubstr("shmctl"));
}

}  // namespace
}  // namespace dormouse::engine
