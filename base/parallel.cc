#include "base/parallel.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include "base/signals.h"

namespace dormouse {
namespace {

constexpr std::size_t kMostThreads = 8;

std::size_t processors() {
  cpu_set_t set;
  return ::sched_getaffinity(0, sizeof set, &set) == 0 ? static_cast<std::size_t>(CPU_COUNT(&set)) : 1;
}

class Crew {
 public:
  Crew(std::size_t count, const std::function<Result<>(std::size_t)>& job) : count_(count), job_(job) {}

  void hire(std::size_t hands) {
    const AllSignalsBlocked quiet;
    try {
      while (threads_.size() < hands) threads_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      // A limit on processes: those who are there do it.
    }
  }
  void work() {
    for (std::size_t at; (at = next_.fetch_add(1, std::memory_order_relaxed)) < count_;)
      if (Result<> done = job_(at); !done) fail_at(at, std::move(done).error());
  }
  Result<> finish() && {
    threads_.clear();  // joins
    if (failure_) return fail(std::move(*failure_));
    return {};
  }

 private:
  void fail_at(std::size_t at, Error error) {
    const std::scoped_lock lock(mutex_);
    if (failure_ && failed_at_ < at) return;
    failed_at_ = at;
    failure_ = std::move(error);
    // Those before it are under way already: they were handed out in order.
    next_.store(count_, std::memory_order_relaxed);
  }

  const std::size_t count_;
  const std::function<Result<>(std::size_t)>& job_;
  std::atomic<std::size_t> next_{0};
  std::mutex mutex_;
  std::size_t failed_at_ = 0;
  std::optional<Error> failure_;
  std::vector<std::jthread> threads_;
};

}  // namespace

Result<> in_parallel(std::size_t count, const std::function<Result<>(std::size_t)>& job, std::size_t worth_a_thread) {
  Crew crew(count, job);
  const std::size_t worth = std::min({processors(), kMostThreads, count / worth_a_thread});
  if (worth > 1) crew.hire(worth - 1);
  crew.work();
  return std::move(crew).finish();
}

}  // namespace dormouse
