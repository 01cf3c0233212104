#include "engine/task/landlock.h"

#include <gtest/gtest.h>
#include <linux/capability.h>

namespace dormouse::engine {
namespace {

using Numbers = std::vector<std::size_t>;

Numbers asked(const std::vector<proc::Status>& threads) {
  std::vector<const proc::Status*> all;
  for (const proc::Status& thread : threads) all.push_back(&thread);
  return threads_to_ask_for_landlock(all);
}

proc::Status with_no_new_privs(std::uint32_t user) {
  proc::Status status;
  status.no_new_privs = true;
  status.uid = {user, user, user, user};
  return status;
}

TEST(Landlock, OnlyThreadsThatMayHaveRestrictedThemselvesAreAsked) {
  proc::Status plain, privileged, confined = with_no_new_privs(0);
  privileged.cap_effective = std::uint64_t{1} << CAP_SYS_ADMIN;
  confined.seccomp = 2;
  EXPECT_EQ(asked({}), Numbers());
  EXPECT_EQ(asked({plain, privileged, confined, with_no_new_privs(0)}), Numbers({1, 3}));
}

TEST(Landlock, OfManyAlikeAFewAreAsked) {
  std::vector<proc::Status> threads(100, with_no_new_privs(7));
  threads[50] = with_no_new_privs(8);
  EXPECT_EQ(asked(threads), Numbers({0, 1, 2, 3, 4, 5, 6, 7, 50}));
}

}  // namespace
}  // namespace dormouse::engine
