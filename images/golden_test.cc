// Images of the reference engine: every file decodes, and encodes to the same bytes.
#include <climits>
#include <set>

#include "images/catalogue.h"
#include "images/recode.h"
#include "images/scratch_for_test.h"
#include "images/schema/files.pb.h"
#include "images/schema/stats.pb.h"
#include "images/schema/task.pb.h"

namespace dormouse::images {
namespace {

// The repository is where the test program was built: one of the folders above it.
std::string golden_path() {
  char self[PATH_MAX] = "";
  EXPECT_GT(::readlink("/proc/self/exe", self, sizeof self - 1), 0);
  for (std::string at = self; !at.empty(); at.resize(at.rfind('/'))) {
    const std::string golden = at + "/tests/golden/reference-4.2";
    if (::access(golden.c_str(), F_OK) == 0) return golden;
  }
  return {};
}
Fd open_golden() { return Fd(::open(golden_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)); }

std::string content(int directory, const std::string& name) {
  const Fd file(::openat(directory, name.c_str(), O_RDONLY | O_CLOEXEC));
  std::string content(1 << 20, '\0');
  content.resize(static_cast<std::size_t>(std::max<ssize_t>(0, ::read(file.get(), content.data(), content.size()))));
  return content;
}

TEST(Golden, EveryFileIsRecodedToTheSameBytes) {
  const Fd golden = open_golden();
  ASSERT_TRUE(golden) << "tests/golden is not beside the build";
  const auto in = InputDirectory::open(golden.get());
  ASSERT_TRUE(in);
  EXPECT_FALSE(in->has_manifest());
  const Scratch scratch;
  auto out = OutputDirectory::open(scratch.fd());
  const auto recoded = recode(*in, *out);
  ASSERT_TRUE(recoded) << recoded.error().message();
  std::set<std::string_view> kinds;
  const auto list = in->list();
  for (const auto& [name, size] : *list) {
    EXPECT_EQ(content(golden.get(), name), scratch.get(name)) << name;
    kinds.insert(find_kind(name)->kind->type->name);
  }
  // So that nobody thins out the folder without noticing.
  EXPECT_EQ(kinds.size(), 37u);
}

TEST(Golden, StatisticsAreRecodedToTheSameBytes) {
  const Fd golden = open_golden();
  ASSERT_TRUE(golden);
  auto reader = open_unlisted(golden.get(), kStatsDump);
  ASSERT_TRUE(reader) << reader.error().message();
  pb::stats_entry stats;
  ASSERT_TRUE(*reader->next(stats));
  const Scratch scratch;
  ASSERT_TRUE(write_unlisted(scratch.fd(), kStatsDump, stats));
  EXPECT_EQ(content(golden.get(), "stats-dump"), scratch.get("stats-dump"));
}

// Decoding to the same bytes would also succeed with members of the wrong name.
TEST(Golden, MembersHaveTheirMeaning) {
  const Fd golden = open_golden();
  ASSERT_TRUE(golden);
  const auto in = InputDirectory::open(golden.get());
  pb::core_entry core;
  ASSERT_TRUE(in->read(kCore, 1, core));
  EXPECT_EQ(core.mtype(), pb::core_entry::X86_64);
  EXPECT_EQ(core.tc().comm(), "victim");
  EXPECT_EQ(core.tc().sigactions_size(), 62);
  EXPECT_EQ(core.thread_info().gpregs().cs(), 0x33u);
  EXPECT_EQ(core.thread_info().fpregs().xmm_space_size(), 64);
  EXPECT_EQ(core.tc().timers().posix_size(), 1);
  auto files = in->reader(kFiles);
  std::set<int> types;
  for (pb::file_entry file; *files->next(file);) {
    types.insert(file.type());
    if (file.type() == pb::EVENTFD) { EXPECT_EQ(file.efd().counter(), 7u); }
    if (file.type() == pb::EVENTPOLL) { EXPECT_EQ(file.epfd().tfd(0).data(), 42u); }
  }
  EXPECT_TRUE(types.contains(pb::INETSK));
  EXPECT_TRUE(types.contains(pb::TTY));
  EXPECT_GE(types.size(), 15u);
}

// A reference image without any checksum: cutting it anywhere must not harm the decoder.
TEST(Golden, CutFilesAreNamedErrorsOrShorterLists) {
  const Fd golden = open_golden();
  ASSERT_TRUE(golden);
  const auto in = InputDirectory::open(golden.get());
  const Scratch scratch;
  const auto list = in->list();
  for (const auto& [name, size] : *list) {
    const std::string whole = content(golden.get(), name);
    for (std::size_t cut = 0; cut < whole.size(); cut += whole.size() > 300 ? 13 : 1) {
      scratch.put(name, whole.substr(0, cut));
      const auto checked = check_records(*InputDirectory::open(scratch.fd()));
      if (!checked) { ASSERT_EQ(checked.error().object(), name) << checked.error().message(); }
    }
    scratch.remove(name);
  }
}

}  // namespace
}  // namespace dormouse::images
