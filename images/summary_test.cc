#include "images/summary.h"

#include "images/scratch_for_test.h"
#include "images/schema/files.pb.h"
#include "images/schema/inventory.pb.h"
#include "images/schema/memory.pb.h"
#include "images/schema/mounts.pb.h"
#include "images/schema/task.pb.h"

namespace dormouse::images {
namespace {

pb::pstree_entry task(std::uint32_t pid, std::uint32_t ppid, int threads) {
  pb::pstree_entry entry;
  entry.set_pid(pid);
  entry.set_ppid(ppid);
  entry.set_pgid(1);
  entry.set_sid(1);
  for (int i = 0; i < threads; ++i) entry.add_threads(pid + static_cast<unsigned>(i));
  return entry;
}

pb::core_entry core(const std::string& comm, std::uint32_t state) {
  pb::core_entry core;
  core.set_mtype(pb::core_entry::X86_64);
  auto* tc = core.mutable_tc();
  tc->set_task_state(state);
  tc->set_exit_code(0);
  tc->set_personality(0);
  tc->set_flags(0);
  tc->set_blk_sigset(0);
  tc->set_comm(comm);
  auto* ids = core.mutable_ids();
  ids->set_vm_id(1);
  ids->set_files_id(5);
  ids->set_fs_id(1);
  ids->set_sighand_id(1);
  return core;
}

pb::mm_entry memory() {
  pb::mm_entry mm;
  mm.set_mm_start_code(0), mm.set_mm_end_code(0), mm.set_mm_start_data(0), mm.set_mm_end_data(0);
  mm.set_mm_start_stack(0), mm.set_mm_start_brk(0), mm.set_mm_brk(0), mm.set_mm_arg_start(0);
  mm.set_mm_arg_end(0), mm.set_mm_env_start(0), mm.set_mm_env_end(0), mm.set_exe_file_id(1);
  auto* area = mm.add_vmas();
  area->set_start(0x10000), area->set_end(0x30000), area->set_pgoff(0), area->set_shmid(0);
  area->set_prot(3), area->set_flags(0x22), area->set_status(1), area->set_fd(-1);
  return mm;
}

pb::pagemap_entry run(std::uint64_t pages, std::uint32_t flags) {
  pb::pagemap_entry entry;
  entry.set_vaddr(0x10000);
  entry.set_compat_nr_pages(1);
  entry.set_nr_pages(pages);
  entry.set_flags(flags);
  return entry;
}

// A root with a child and a zombie.
void write_example(const Scratch& scratch) {
  auto out = OutputDirectory::open(scratch.fd());
  auto tree = out->create(kPstree);
  ASSERT_TRUE(tree->append(task(1, 0, 3)));
  ASSERT_TRUE(tree->append(task(10, 1, 1)));
  ASSERT_TRUE(tree->append(task(11, 10, 1)));
  ASSERT_TRUE(tree->finish());
  ASSERT_TRUE(out->write(kCore, 1, core("root", 1)));
  ASSERT_TRUE(out->write(kCore, 10, core("a\x1b[2Jb", 1)));
  pb::core_entry gone = core("gone", 2);
  gone.clear_ids();  // as of every zombie
  ASSERT_TRUE(out->write(kCore, 11, gone));
  ASSERT_TRUE(out->write(kMm, 1, memory()));
  auto map = out->create(kPagemap, 1);
  pb::pagemap_head head;
  head.set_pages_id(1);
  ASSERT_TRUE(map->append(head));
  for (const auto& entry : {run(3, 4), run(4, 4 | 2), run(5, 1), run(6, 2)}) ASSERT_TRUE(map->append(entry));
  ASSERT_TRUE(map->finish());
  auto table = out->create(kFdinfo, 5);
  pb::fdinfo_entry slot;
  slot.set_id(1), slot.set_flags(0), slot.set_type(pb::REG);
  for (int fd = 0; fd < 3; ++fd) {
    slot.set_fd(static_cast<unsigned>(fd));
    ASSERT_TRUE(table->append(slot));
  }
  ASSERT_TRUE(table->finish());
  ASSERT_TRUE(out->seal({.tasks = 3, .threads = 5, .pages = 7, .root_comm = "root", .extra = {}}, false));
}

TEST(Summary, CountsWhatIsThere) {
  const Scratch scratch;
  write_example(scratch);
  const auto in = InputDirectory::open(scratch.fd());
  const auto summary = summarize(*in);
  ASSERT_TRUE(summary) << summary.error().message();
  EXPECT_EQ(summary->seal, Summary::Seal::kSealed);
  ASSERT_EQ(summary->tasks.size(), 3u);
  EXPECT_EQ(summary->threads, 5u);
  EXPECT_EQ(summary->open_files, 0u);
  const TaskSummary& root = summary->tasks[0];
  EXPECT_EQ(root.comm, "root");
  EXPECT_EQ(root.threads, 3u);
  EXPECT_EQ(root.descriptors, 3u);
  EXPECT_EQ(root.mapped_bytes, 0x20000u);
  EXPECT_EQ(root.pages, 7u);
  EXPECT_EQ(root.parent_pages, 5u);
  EXPECT_EQ(root.lazy_pages, 6u);
  EXPECT_TRUE(summary->tasks[2].zombie);
  EXPECT_EQ(summary->image_files, 7u);
}

TEST(Summary, IsATreeForPeople) {
  const Scratch scratch;
  write_example(scratch);
  const auto in = InputDirectory::open(scratch.fd());
  auto summary = summarize(*in);
  ASSERT_TRUE(summary);
  summary->engine_version = "1.2.3";
  summary->image_bytes = 1500;
  EXPECT_EQ(summary_text(*summary),
            "sealed checkpoint, made by dormouse 1.2.3\n"
            "3 tasks, 5 threads, 0 open files, 0 mounts\n"
            "7 image files, 1.5 KiB, of which 0 B pages\n"
            "      1  root  3 threads, 3 descriptors, 128 KiB in 1 mapping, 28 KiB saved, 20 KiB in the parent, "
            "24 KiB on demand\n"
            "     10    a?[2Jb  1 thread, 3 descriptors, 0 B in 0 mappings, 0 B saved\n"
            "     11      gone  (zombie)\n");
}

TEST(Summary, NamesWhatIsMissing) {
  const Scratch scratch;
  write_example(scratch);
  scratch.remove("dormouse.json");
  scratch.remove("core-10.img");
  const auto in = InputDirectory::open(scratch.fd());
  const auto summary = summarize(*in);
  ASSERT_FALSE(summary);
  EXPECT_EQ(summary.error().object(), "core-10.img");
}

TEST(Summary, BytesHaveReadableUnits) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(1024), "1.0 KiB");
  EXPECT_EQ(bytes_text(68 << 10), "68 KiB");
  EXPECT_EQ(bytes_text(1'500'000'000), "1.4 GiB");
  EXPECT_EQ(bytes_text(UINT64_MAX), "16 EiB");
}

}  // namespace
}  // namespace dormouse::images
