#include "images/directory.h"

#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>

#include "images/checksum.h"
#include "images/scratch_for_test.h"
#include "images/schema/inventory.pb.h"
#include "images/schema/memory.pb.h"
#include "images/schema/namespaces.pb.h"
#include "images/schema/pipes.pb.h"

namespace dormouse::images {
namespace {

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
std::string text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
pb::pstree_entry task(std::uint32_t pid, std::uint32_t ppid) {
  pb::pstree_entry entry;
  entry.set_pid(pid);
  entry.set_ppid(ppid);
  entry.set_pgid(pid);
  entry.set_sid(1);
  entry.add_threads(pid);
  return entry;
}
pb::inventory_entry inventory() {
  pb::inventory_entry entry;
  entry.set_img_version(2);
  return entry;
}
pb::pipe_data_entry pipe(std::uint32_t id, std::uint32_t size) {
  pb::pipe_data_entry entry;
  entry.set_pipe_id(id);
  entry.set_bytes(size);
  return entry;
}

// A checkpoint of four files: one record, two records, record and payload, pages.
void write_example(const Scratch& scratch) {
  auto out = OutputDirectory::open(scratch.fd());
  ASSERT_TRUE(out);
  {
    auto writer = out->create(kPstree);
    ASSERT_TRUE(writer->append(task(1, 0)));
    ASSERT_TRUE(writer->append(task(8, 1)));
    ASSERT_TRUE(writer->finish());
  }
  {
    auto writer = out->create(kPipesData);
    ASSERT_TRUE(writer->append(pipe(5, 3)));
    ASSERT_TRUE(writer->append_bytes(bytes("abc")));
    ASSERT_TRUE(writer->finish());
  }
  auto pages = out->create_pages(1);
  ASSERT_TRUE(pages);
  const std::string page(4096, 'p');
  ASSERT_EQ(::pwrite(pages->fd.get(), page.data(), page.size(), 0), 4096);
  ASSERT_TRUE(out->finish_pages(*pages, 4096, {checksum(page)}));
  ASSERT_TRUE(out->write(kInventory, std::nullopt, inventory()));
  const auto sealed = out->seal({.tasks = 2, .threads = 2, .pages = 1, .root_comm = "sh", .extra = {}}, false);
  ASSERT_TRUE(sealed) << sealed.error().message();
}

// Everything that a reader of the example would do, with the first failure.
Result<> read_example(const Scratch& scratch) {
  const InputDirectory in = TRY(InputDirectory::open(scratch.fd()));
  if (!in.has_manifest()) return fail(Error::corrupt("no manifest"));
  TRY(in.verify());
  TRY(in.verify_pages());
  pb::inventory_entry head;
  TRY(in.read(kInventory, std::nullopt, head));
  Reader tree = TRY(in.reader(kPstree));
  pb::pstree_entry entry;
  while (TRY(tree.next(entry))) continue;
  return {};
}

TEST(Directory, RecordsComeBack) {
  const Scratch scratch;
  write_example(scratch);
  const auto in = InputDirectory::open(scratch.fd());
  ASSERT_TRUE(in) << in.error().message();
  ASSERT_TRUE(in->has_manifest());
  EXPECT_EQ(in->info()->root_comm, "sh");
  EXPECT_TRUE(in->verify());
  EXPECT_TRUE(in->verify_pages());

  auto tree = in->reader(kPstree);
  ASSERT_TRUE(tree);
  pb::pstree_entry entry;
  ASSERT_TRUE(*tree->next(entry));
  EXPECT_EQ(entry.pid(), 1u);
  ASSERT_TRUE(*tree->next(entry));
  EXPECT_EQ(entry.pid(), 8u);
  EXPECT_EQ(entry.threads_size(), 1);
  EXPECT_FALSE(*tree->next(entry));
  EXPECT_FALSE(*tree->next(entry));

  auto pipes = in->reader(kPipesData);
  pb::pipe_data_entry data;
  ASSERT_TRUE(*pipes->next(data));
  EXPECT_EQ(pipes->remaining(), 3u);
  EXPECT_EQ(text(*pipes->read_bytes(3)), "abc");
  EXPECT_FALSE(*pipes->next(data));

  EXPECT_EQ(in->page_chunk_checksums(1).size(), 1u);
  EXPECT_TRUE(in->page_chunk_checksums(2).empty());
  EXPECT_TRUE(in->open_raw(kPages, 1));
  EXPECT_EQ(in->list()->at("pages-1.img"), 4096u);
}

TEST(Directory, BytesAreTheReferenceFormat) {
  const Scratch scratch;
  write_example(scratch);
  EXPECT_EQ(scratch.get("pstree.img"), std::string("\x19\x43\x56\x54\x30\x30\x27\x50"
                                                   "\x0a\0\0\0\x08\x01\x10\0\x18\x01\x20\x01\x28\x01"
                                                   "\x0a\0\0\0\x08\x08\x10\x01\x18\x08\x20\x01\x28\x08", 36));
  EXPECT_EQ(scratch.get("inventory.img"), std::string("\x16\x31\x31\x58\x02\0\0\0\x08\x02", 10));
  EXPECT_EQ(scratch.get("pages-1.img"), std::string(4096, 'p'));
  struct ::stat st{};
  ASSERT_EQ(::fstatat(scratch.fd(), "pstree.img", &st, 0), 0);
  const mode_t mask = ::umask(0);
  ::umask(mask);
  EXPECT_EQ(st.st_mode & 07777, 0644 & ~mask);
}

TEST(Directory, StatisticsHaveTheServicePreambleAndAreNotListed) {
  const Scratch scratch;
  write_example(scratch);
  ASSERT_TRUE(write_unlisted(scratch.fd(), kStatsDump, inventory()));
  EXPECT_EQ(scratch.get("stats-dump").substr(0, 8), "\x40\x59\x10\x55\x06\x33\x09\x57");
  pb::inventory_entry back;
  auto reader = open_unlisted(scratch.fd(), kStatsDump);
  ASSERT_TRUE(reader);
  EXPECT_TRUE(*reader->next(back));
  EXPECT_TRUE(read_example(scratch));
  EXPECT_FALSE(InputDirectory::open(scratch.fd())->exists(kStatsDump));
}

TEST(Directory, LargeRecordsAndPayloadsPassTheBuffers) {
  const Scratch scratch;
  auto out = OutputDirectory::open(scratch.fd());
  auto writer = out->create(kPipesData);
  std::vector<std::string> payloads;
  for (const std::size_t size : {0u, 1u, 70'000u, 200'000u, 300'000u, 5u, 1'000'000u}) {
    payloads.emplace_back(size, static_cast<char>('a' + payloads.size()));
    ASSERT_TRUE(writer->append(pipe(1, static_cast<std::uint32_t>(size))));
    ASSERT_TRUE(writer->append_bytes(bytes(payloads.back())));
  }
  ASSERT_TRUE(writer->finish());
  pb::mm_entry big;  // some megabytes in one record
  big.set_mm_start_code(1), big.set_mm_end_code(1), big.set_mm_start_data(1), big.set_mm_end_data(1);
  big.set_mm_start_stack(1), big.set_mm_start_brk(1), big.set_mm_brk(1), big.set_mm_arg_start(1);
  big.set_mm_arg_end(1), big.set_mm_env_start(1), big.set_mm_env_end(1), big.set_exe_file_id(1);
  for (int i = 0; i < 1'000'000; ++i) big.add_mm_saved_auxv(UINT64_MAX - static_cast<unsigned>(i));
  ASSERT_TRUE(out->write(kMm, 1, big));
  ASSERT_TRUE(out->seal({}, true));

  const auto in = InputDirectory::open(scratch.fd());
  ASSERT_TRUE(in->verify());
  auto reader = in->reader(kPipesData);
  pb::pipe_data_entry entry;
  for (const std::string& payload : payloads) {
    ASSERT_TRUE(*reader->next(entry));
    ASSERT_EQ(text(*reader->read_bytes(entry.bytes())), payload);
  }
  EXPECT_FALSE(*reader->next(entry));
  pb::mm_entry back;
  ASSERT_TRUE(in->read(kMm, 1, back));
  EXPECT_EQ(back.SerializeAsString(), big.SerializeAsString());
}

TEST(Directory, PayloadsCanBeCopiedAndSkipped) {
  const Scratch scratch;
  write_example(scratch);
  const auto in = InputDirectory::open(scratch.fd());
  pb::pipe_data_entry entry;
  auto reader = in->reader(kPipesData);
  ASSERT_TRUE(*reader->next(entry));
  const Fd copy(::openat(scratch.fd(), "copy", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  EXPECT_FALSE(reader->copy_bytes(4, copy.get()));
  EXPECT_FALSE(reader->skip_bytes(4));
  ASSERT_TRUE(reader->copy_bytes(2, copy.get()));
  EXPECT_EQ(scratch.get("copy"), "ab");
  ASSERT_TRUE(reader->skip_bytes(1));
  EXPECT_EQ(reader->remaining(), 0u);
}

TEST(Directory, AFileWithoutRecordsDoesNotComeIntoBeing) {
  const Scratch scratch;
  auto out = OutputDirectory::open(scratch.fd());
  ASSERT_TRUE(out->create(kTtyInfo)->finish());
  ASSERT_TRUE(out->seal({}, false));
  EXPECT_EQ(scratch.names(), std::vector<std::string>{"dormouse.json"});
  EXPECT_FALSE(InputDirectory::open(scratch.fd())->exists(kTtyInfo));
}

TEST(Directory, IsNoCheckpointBeforeTheSeal) {
  const Scratch scratch;
  write_example(scratch);
  auto out = OutputDirectory::open(scratch.fd());  // a second dump into the same directory
  EXPECT_FALSE(scratch.has("dormouse.json"));
  EXPECT_FALSE(scratch.has("inventory.img"));
  EXPECT_FALSE(InputDirectory::open(scratch.fd())->has_manifest());
}

TEST(Directory, WhatAnOlderDumpLeftDoesNotCount) {
  const Scratch scratch;
  scratch.put("tty-info.img", "left over");
  scratch.put("core-99.img", "left over");
  write_example(scratch);
  const auto in = InputDirectory::open(scratch.fd());
  EXPECT_TRUE(in->verify());
  EXPECT_FALSE(in->exists(kTtyInfo));
  const auto reader = in->reader(kCore, 99);
  ASSERT_FALSE(reader);
  EXPECT_EQ(reader.error().object(), "core-99.img");
}

TEST(Directory, DoesNotSealUnfinishedFiles) {
  const Scratch scratch;
  auto out = OutputDirectory::open(scratch.fd());
  {
    auto writer = out->create(kPstree);
    ASSERT_TRUE(writer->append(task(1, 0)));
  }
  const auto sealed = out->seal({}, false);
  ASSERT_FALSE(sealed);
  EXPECT_EQ(sealed.error().object(), "pstree.img");
  EXPECT_FALSE(scratch.has("dormouse.json"));
}

TEST(Directory, DiscardRemovesWhatItMadeAndNothingElse) {
  const Scratch scratch;
  scratch.put("dump.log", "x");
  auto out = OutputDirectory::open(scratch.fd());
  ASSERT_TRUE(out->write(kInventory, std::nullopt, inventory()));
  ASSERT_TRUE(out->create_pages(1));
  auto writer = out->create(kPipesData);
  ASSERT_TRUE(writer->append_bytes(std::vector<std::byte>(1 << 20)));
  EXPECT_EQ(scratch.names().size(), 4u);
  out->discard();
  EXPECT_EQ(scratch.names(), std::vector<std::string>{"dump.log"});
}

TEST(Directory, ChecksWhatIsSaidAboutPages) {
  const Scratch scratch;
  auto out = OutputDirectory::open(scratch.fd());
  auto pages = out->create_pages(1);
  constexpr std::uint64_t kTwoChunks = 2 * kPageChunkBytes;
  ASSERT_EQ(::ftruncate(pages->fd.get(), kTwoChunks), 0);
  EXPECT_FALSE(out->finish_pages(*pages, kPageChunkBytes, {1}));
  EXPECT_FALSE(out->finish_pages(*pages, kTwoChunks, {1}));
  EXPECT_FALSE(out->finish_pages(*pages, kTwoChunks, {1, 2, 3}));
  EXPECT_TRUE(out->finish_pages(*pages, kTwoChunks, {1, 2}));
}

TEST(Directory, RefusesRecordsThatLackAMember) {
  const Scratch scratch;
  auto out = OutputDirectory::open(scratch.fd());
  pb::pstree_entry incomplete;
  incomplete.set_pid(1);
  const auto written = out->write(kPstree, std::nullopt, incomplete);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().message(), "pstree.img: a dormouse.pb.pstree_entry lacks a required member");
}

// --- damage -------------------------------------------------------------------------------------

TEST(Damage, AFlippedBitInAnyByteOfAnyFileIsANamedError) {
  const Scratch scratch;
  write_example(scratch);
  ASSERT_TRUE(read_example(scratch));
  for (const std::string& name : scratch.names()) {
    const std::string good = scratch.get(name);
    for (std::size_t at = 0; at < good.size(); at += good.size() > 2000 ? 97 : 1) {  // pages: a sample
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << at % 8));
      scratch.put(name, bad);
      const auto read = read_example(scratch);
      ASSERT_FALSE(read) << name << " byte " << at;
      ASSERT_EQ(read.error().object(), name) << read.error().message();
      ASSERT_EQ(read.error().kind(), Error::Kind::kCorruptImage);
    }
    scratch.put(name, good);
  }
}

TEST(Damage, EveryCutOfEveryFileIsANamedError) {
  const Scratch scratch;
  write_example(scratch);
  for (const std::string& name : scratch.names()) {
    const std::string good = scratch.get(name);
    for (std::size_t size = 0; size < good.size(); size += good.size() > 2000 ? 97 : 1) {
      scratch.put(name, good.substr(0, size));
      const auto read = read_example(scratch);
      ASSERT_FALSE(read) << name << " cut to " << size;
      ASSERT_EQ(read.error().object(), name) << read.error().message();
    }
    scratch.put(name, good + "x");
    EXPECT_FALSE(read_example(scratch)) << name;
    scratch.put(name, good);
  }
}

TEST(Damage, MissingFilesAreNamed) {
  for (const char* name : {"pstree.img", "pages-1.img", "inventory.img"}) {
    const Scratch scratch;
    write_example(scratch);
    scratch.remove(name);
    const auto read = read_example(scratch);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().object(), name);
    EXPECT_NE(read.error().message().find("missing"), std::string::npos) << read.error().message();
  }
}

// Without a manifest (as the reference engine leaves it) the decoder alone must hold.
TEST(Damage, CutRecordsWithoutAManifestAreNamedWithTheirPlace) {
  const Scratch scratch;
  write_example(scratch);
  scratch.remove("dormouse.json");
  const std::string good = scratch.get("pstree.img");
  for (std::size_t size = 0; size < good.size(); ++size) {
    scratch.put("pstree.img", good.substr(0, size));
    const auto in = InputDirectory::open(scratch.fd());
    auto reader = in->reader(kPstree);
    Result<bool> more = true;
    if (!reader) more = fail(reader.error());
    for (pb::pstree_entry entry; more && *more;) more = reader->next(entry);
    if (size == 8 || size == 22) {  // between records: a shorter tree is a tree
      EXPECT_TRUE(more);
      continue;
    }
    ASSERT_FALSE(more) << size;
    EXPECT_EQ(more.error().object(), "pstree.img");
    EXPECT_NE(more.error().message().find("at byte "), std::string::npos) << more.error().message();
  }
}

TEST(Damage, LengthsAreCheckedBeforeAnythingIsAllocated) {
  const Scratch scratch;
  const std::string head("\x19\x43\x56\x54\x30\x30\x27\x50", 8);
  const auto read = [&](const std::string& rest) {
    scratch.put("pstree.img", head + rest);
    pb::pstree_entry entry;
    return InputDirectory::open(scratch.fd())->read(kPstree, std::nullopt, entry);
  };
  EXPECT_EQ(read("\xff\xff\xff\xff").error().message(),
            "pstree.img: at byte 8: a record of 4294967295 bytes is beyond the limit of 67108864 "
            "(the file is damaged; copy the checkpoint again from its source)");
  EXPECT_NE(read(std::string("\0\0\0\x04", 4)).error().message().find("only 0 are left"), std::string::npos);
  EXPECT_NE(read(std::string("\x01\0\0\0\xff", 5)).error().message().find("is not a dormouse.pb.pstree_entry"),
            std::string::npos);
  EXPECT_NE(read(std::string("\x02\0\0\0\x08\x01", 6)).error().message().find("lacks a required member"),
            std::string::npos);
  EXPECT_FALSE(read(""));
  const std::string record("\x0a\0\0\0\x08\x01\x10\0\x18\x01\x20\x01\x28\x01", 14);
  EXPECT_TRUE(read(record));
  EXPECT_FALSE(read(record + record));  // read() wants one

  auto reader = InputDirectory::open(scratch.fd())->reader(kPstree);
  EXPECT_FALSE(reader->read_bytes(SIZE_MAX));
}

TEST(Damage, AnotherKindsFileIsRefused) {
  const Scratch scratch;
  write_example(scratch);
  scratch.remove("dormouse.json");
  scratch.put("mm-1.img", scratch.get("pstree.img"));
  const auto reader = InputDirectory::open(scratch.fd())->reader(kMm, 1);
  ASSERT_FALSE(reader);
  EXPECT_NE(reader.error().message().find("mm-1.img: at byte 4: magic number"), std::string::npos);
}

TEST(Damage, LinksAndFifosAreNotFollowedOrWaitedFor) {
  const Scratch scratch;
  write_example(scratch);
  scratch.remove("pstree.img");
  ASSERT_EQ(::symlinkat("/etc/passwd", scratch.fd(), "pstree.img"), 0);
  EXPECT_EQ(read_example(scratch).error().object(), "pstree.img");
  scratch.remove("pstree.img");
  ASSERT_EQ(::mkfifoat(scratch.fd(), "pstree.img", 0600), 0);
  EXPECT_EQ(read_example(scratch).error().message(), "pstree.img: is not a plain file");

  // Nor are they written through.
  scratch.remove("pstree.img");
  ASSERT_EQ(::symlinkat("elsewhere", scratch.fd(), "pstree.img"), 0);
  auto out = OutputDirectory::open(scratch.fd());
  const auto written = out->write(kPstree, std::nullopt, task(1, 0));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().object(), "pstree.img");
  EXPECT_FALSE(scratch.has("elsewhere"));
}

// --- no space -----------------------------------------------------------------------------------

// Runs `body` in a child that may write files of 8 KiB at most; its exit status is the answer.
template <class Body>
int with_small_files(Body&& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{8192, 8192};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    ::_exit(body());
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(NoSpace, IsToldWithFileAndRemedy) {
  const Scratch scratch;
  const int answer = with_small_files([&] {
    auto out = OutputDirectory::open(scratch.fd());
    auto writer = out->create(kPipesData);
    Result<> done = writer->append(pipe(1, 9000));
    if (done) done = writer->append_bytes(std::vector<std::byte>(9000));
    if (done) done = writer->finish();
    if (done) return 1;
    if (done.error().object() != "pipes-data.img") return 2;
    if (!done.error().is_kernel(EFBIG)) return 3;
    if (done.error().remedy().find("RLIMIT_FSIZE") == std::string::npos) return 4;
    if (out->seal({}, false)) return 5;
    out->discard();
    return 0;
  });
  EXPECT_EQ(answer, 0);
  EXPECT_TRUE(scratch.names().empty());
}

TEST(NoSpace, ForTheManifestLeavesNoCheckpoint) {
  const Scratch scratch;
  const int answer = with_small_files([&] {
    auto out = OutputDirectory::open(scratch.fd());
    if (!out->write(kInventory, std::nullopt, inventory())) return 1;
    const auto sealed =
        out->seal({.tasks = 0, .threads = 0, .pages = 0, .root_comm = "", .extra = {{"x", std::string(9000, 'x')}}}, false);
    if (sealed) return 2;
    if (sealed.error().object() != "dormouse.json.new") return 3;
    return 0;
  });
  EXPECT_EQ(answer, 0);
  EXPECT_FALSE(scratch.has("dormouse.json"));
}

TEST(NoSpace, FullDiskHasARemedy) {
  // No file system of ours is full; /dev is a directory with a file that behaves so.
  const Fd dev(::open("/dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const ImageType full{"full", 0, Preamble::kNone};
  const auto written = write_unlisted(dev.get(), full, inventory());
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().message(),
            "full: write: No space left on device (ENOSPC) (free space there or choose another images directory)");
}

}  // namespace
}  // namespace dormouse::images
