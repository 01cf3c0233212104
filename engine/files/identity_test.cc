#include "engine/files/identity.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/files/open_file.h"

namespace dormouse::engine {
namespace {

// A world in which descriptor `number` of `pid` refers to open file number `pid * number % 1000`, in an
// order of their own.
struct FakeKernel {
  int questions = 0;
  OpenFileSet::Compare compare() {
    return [this](OpenFileSet::Place one, OpenFileSet::Place other) -> Result<int> {
      ++questions;
      const auto cookie = [](OpenFileSet::Place place) { return place.pid * place.number % 1000 * 7919 % 1009; };
      return cookie(one) == cookie(other) ? 0 : cookie(one) < cookie(other) ? 1 : 2;
    };
  }
};

TEST(OpenFileSet, FindsSharedFilesWithFewQuestions) {
  FakeKernel kernel;
  OpenFileSet set(kernel.compare());
  std::uint32_t next_id = 1;
  std::map<int, std::uint32_t> ids;  // by open file
  Task task;
  for (task.pid = 1; task.pid <= 1000; ++task.pid)
    for (int number = 0; number < 10; ++number) {
      OpenFile file;
      file.task = &task;
      file.number = number;
      const auto answer = set.find_or_add(file, next_id);
      ASSERT_TRUE(answer);
      const int open_file = task.pid * number % 1000;
      EXPECT_EQ(answer->is_new, !ids.contains(open_file));
      if (answer->is_new) ids[open_file] = answer->known->id;
      ASSERT_EQ(answer->known->id, ids[open_file]);
    }
  EXPECT_EQ(next_id - 1, ids.size());
  EXPECT_LE(kernel.questions, 10'000 * 10);  // log2(1000)
}

TEST(OpenFileSet, AsksOnlyAboutCandidates) {
  OpenFileSet set([](auto, auto) -> Result<int> { return fail(Error::kernel("kcmp", EPERM)); });
  std::uint32_t next_id = 1;
  Task task;
  for (int number = 0; number < 5; ++number) {
    OpenFile file;
    file.task = &task;
    file.number = number;
    file.pos = static_cast<std::uint64_t>(number);
    ASSERT_TRUE(set.find_or_add(file, next_id));
  }
  EXPECT_EQ(next_id, 6u);
}

}  // namespace
}  // namespace dormouse::engine
