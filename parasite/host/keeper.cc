#include "parasite/host/keeper.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "base/format.h"
#include "kernel/ptrace.h"

namespace dormouse::parasite {
namespace {

// Bumped by the SIGCHLD handler and waited on as a futex, so that a child's event and a finished program
// are waited for in one system call without a gap. A signal handler has nowhere else to leave a trace.
std::atomic<std::uint32_t> child_events{0};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

void on_child_event(int) { child_events.fetch_add(1, std::memory_order_release); }

constexpr int kSpins = 4000;

struct FutexWaitv {  // struct futex_waitv, Linux 5.16
  std::uint64_t value;
  std::uint64_t address;
  std::uint32_t flags;
  std::uint32_t reserved;
};
constexpr std::uint32_t kFutex32 = 2;

std::uint32_t load(const std::uint32_t& word) { return __atomic_load_n(&word, __ATOMIC_ACQUIRE); }

}  // namespace

Result<std::unique_ptr<Keeper>> Keeper::create() {
  std::unique_ptr<Keeper> keeper(new Keeper);
  struct ::sigaction action{};
  action.sa_handler = on_child_event;
  if (::sigaction(SIGCHLD, &action, nullptr) < 0) return fail(Error::kernel("sigaction", errno));
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGCHLD);
  ::sigprocmask(SIG_UNBLOCK, &set, nullptr);

  keeper->owner_ = static_cast<std::uint32_t>(::gettid());
  keeper->list_.list.next = &keeper->list_.list;
  keeper->list_.futex_offset = blob::kFutexOffset;
  // The C library's own list is given up: it serves robust mutexes, which the engine does not use.
  if (::syscall(SYS_set_robust_list, &keeper->list_, sizeof keeper->list_) < 0)
    return fail(Error::kernel("set_robust_list", errno));
  return keeper;
}

Keeper::~Keeper() {
  list_.list.next = &list_.list;
  ::syscall(SYS_set_robust_list, nullptr, sizeof list_);
  struct ::sigaction action{};
  action.sa_handler = SIG_DFL;
  ::sigaction(SIGCHLD, &action, nullptr);
}

void Keeper::enlist(blob::Cell& cell) {
  auto* node = reinterpret_cast<robust_list*>(&cell.robust_next);
  node->next = list_.list.next;
  std::atomic_signal_fence(std::memory_order_seq_cst);  // the kernel may walk the list at any instant
  list_.list.next = node;
}

void Keeper::dismiss(blob::Cell& cell) {
  auto* node = reinterpret_cast<robust_list*>(&cell.robust_next);
  for (robust_list* at = &list_.list; at->next != &list_.list; at = at->next) {
    if (at->next != node) continue;
    at->next = node->next;
    return;
  }
}

void Keeper::hand_work(blob::Cell& cell) {
  // *word &= ~(1 << 31), then wake one waiter of word.
  constexpr std::uint32_t kShiftOperand = 8, kWaitersBit = 31;
  constexpr std::uint32_t kOperation = ((FUTEX_OP_ANDN | kShiftOperand) << 28) | (kWaitersBit << 12);
  ::syscall(SYS_futex, &cell.word, FUTEX_WAKE_OP, 1, nullptr, &cell.word, kOperation);
}

void Keeper::forget(pid_t tid) {
  awaited_.erase(tid);
  stops_.erase(tid);
  dead_.erase(tid);
  stop_signals_.erase(tid);
}

void Keeper::collect() {
  const std::uint32_t events = child_events.load(std::memory_order_acquire);
  for (;;) {
    int status = 0;
    const pid_t tid = ::waitpid(-1, &status, WNOHANG | __WALL);
    if (tid < 0 && errno == EINTR) continue;
    if (tid <= 0) break;
    if (!WIFSTOPPED(status))
      dead_.insert(tid);
    else if (awaited_.contains(tid))
      stops_[tid] = {status};
    else
      answer(tid, status);
  }
  collected_ = events;
}

// A held thread has every signal blocked, so the only stops it can make by itself are for SIGSTOP
// (which cannot be blocked) and for a group stop of its process. It is let go on at once.
void Keeper::answer(pid_t tid, int status) {
  const Stop stop{status};
  if (stop.event() == 0 && stop.signal() == SIGSTOP) stop_signals_.insert(tid);
  if (!sys::ptrace::cont(tid)) dead_.insert(tid);
}

Result<Stop> Keeper::wait_stop(pid_t tid, Deadline deadline) {
  for (;;) {
    const std::uint32_t events = child_events.load(std::memory_order_acquire);
    collect();
    if (const auto found = stops_.find(tid); found != stops_.end()) {
      const Stop stop = found->second;
      stops_.erase(found);
      return stop;
    }
    if (dead_.contains(tid)) return fail(Error::task_died(format("thread {} ended", tid)));
    if (Result<> slept = sleep(nullptr, 0, events, deadline); !slept)
      return fail(std::move(slept).error().during(format("waiting for thread {} to stop", tid)));
  }
}

Result<> Keeper::wait_word(const std::uint32_t& word, std::uint32_t seen, pid_t tid, Deadline deadline) {
  for (int i = 0; i < kSpins; ++i) {
    if (load(word) != seen) return {};
    __builtin_ia32_pause();
  }
  for (;;) {
    const std::uint32_t events = child_events.load(std::memory_order_acquire);
    if (load(word) != seen) return {};
    if (events != collected_) collect();
    if (dead_.contains(tid)) return fail(Error::task_died(format("thread {} ended", tid)));
    if (Result<> slept = sleep(&word, seen, events, deadline); !slept)
      return fail(std::move(slept).error().during(format("waiting for thread {}", tid)));
  }
}

Result<> Keeper::sleep(const std::uint32_t* word, std::uint32_t seen, std::uint32_t events,
                       Deadline deadline) {
  FutexWaitv waits[2] = {{events, reinterpret_cast<std::uint64_t>(&child_events), kFutex32, 0},
                         {seen, reinterpret_cast<std::uint64_t>(word), kFutex32, 0}};
  const auto since_epoch = deadline.time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since_epoch);
  const timespec until{seconds.count(),
                       std::chrono::duration_cast<std::chrono::nanoseconds>(since_epoch - seconds).count()};
  const long got = ::syscall(SYS_futex_waitv, waits, word ? 2 : 1, 0, &until, CLOCK_MONOTONIC);
  if (got >= 0 || errno == EAGAIN || errno == EINTR) return {};
  return fail(Error::kernel("futex_waitv", errno));
}

}  // namespace dormouse::parasite
