#include "base/parallel.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <vector>

#include "base/format.h"

namespace dormouse {
namespace {

TEST(Parallel, EveryJobIsDoneOnce) {
  for (const std::size_t count : {0u, 1u, 15u, 1000u}) {
    std::vector<std::atomic<int>> done(count);
    ASSERT_TRUE(in_parallel(count, [&](std::size_t at) -> Result<> { return ++done[at], Result<>{}; }));
    for (const auto& one : done) EXPECT_EQ(one, 1);
  }
}

TEST(Parallel, TheFirstFailureCounts) {
  for (int round = 0; round < 50; ++round) {
    const Result<> done = in_parallel(1000, [](std::size_t at) -> Result<> {
      if (at >= 100) return fail(Error::unsupported(format("job {}", at)));
      return {};
    });
    ASSERT_FALSE(done);
    EXPECT_NE(done.error().message().find("job 100"), std::string::npos) << done.error().message();
  }
}

TEST(Parallel, SignalsAreTheCallers) {
  const auto caller = ::pthread_self();
  ASSERT_TRUE(in_parallel(1000, [&](std::size_t) -> Result<> {
    sigset_t blocked;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
    if (!::pthread_equal(::pthread_self(), caller) && ::sigismember(&blocked, SIGCHLD) != 1)
      return fail(Error::unsupported("SIGCHLD may come here"));
    return {};
  }));
}

}  // namespace
}  // namespace dormouse
