#include "parasite/host/keeper.h"

#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <system_error>

#include "base/format.h"
#include "base/signals.h"
#include "kernel/ptrace.h"
#include "parasite/host/area.h"

namespace dormouse::parasite {
namespace {

// Bumped by the SIGCHLD handler and waited on as a futex, so that a child's event and a finished program
// are waited for in one system call without a gap. A signal handler has nowhere else to leave a trace.
std::atomic<std::uint32_t> child_events{0};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

void on_child_event(int) { child_events.fetch_add(1, std::memory_order_release); }

constexpr int kSpins = 4000;
constexpr std::chrono::milliseconds kSoon{1};
constexpr std::size_t kCellsPerList = 2048;  // ROBUST_LIST_LIMIT, include/linux/futex.h
constexpr std::uint32_t kNoOwner = ~std::uint32_t{0};

bool set_robust_list(robust_list_head& head) {
  head.list.next = &head.list;
  head.futex_offset = blob::kFutexOffset;
  return ::syscall(SYS_set_robust_list, &head, sizeof head) == 0;
}

struct FutexWaitv {  // struct futex_waitv, Linux 5.16
  std::uint64_t value;
  std::uint64_t address;
  std::uint32_t flags;
  std::uint32_t reserved;
};
constexpr std::uint32_t kFutex32 = 2;

Error fault_of(pid_t tid, const Fault& fault) {
  Error error = Error::kernel(format("SIG{} at {:#x}", ::sigabbrev_np(fault.signal), fault.address), EFAULT);
  if (fault.signal != SIGSYS) return error;
  return std::move(error).object(format("system calls of thread {}", tid))
      .remedy("does it have them handed back (PR_SET_SYSCALL_USER_DISPATCH)? Linux tells that since 6.4");
}

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

  Owner& own = *keeper->owners_.emplace_back(std::make_unique<Owner>());
  own.tid = static_cast<std::uint32_t>(::gettid());
  // The C library's own list is given up: it serves robust mutexes, which the engine does not use.
  if (!set_robust_list(own.list)) return fail(Error::kernel("set_robust_list", errno));
  return keeper;
}

// It must not take the engine's SIGCHLD, whose arrival ends a wait only in the thread that gets it.
void Keeper::own_list(Owner& owner, std::atomic<std::uint32_t>& tid) {
  const bool listed = set_robust_list(owner.list);
  tid.store(listed ? static_cast<std::uint32_t>(::gettid()) : kNoOwner);
  tid.notify_one();
  owner.dismissed.wait(0);
}

Result<Keeper::Owner*> Keeper::owner_with_room() {
  for (const auto& owner : owners_)
    if (owner->cells < kCellsPerList) return owner.get();
  auto owner = std::make_unique<Owner>();
  std::atomic<std::uint32_t> tid{0};
  try {
    const AllSignalsBlocked quiet;
    owner->thread = std::thread(own_list, std::ref(*owner), std::ref(tid));
  } catch (const std::system_error& error) {
    return fail(Error::kernel("a thread that owns a robust list", error.code().value()));
  }
  tid.wait(0);
  owner->tid = tid.load();
  Owner* const added = owners_.emplace_back(std::move(owner)).get();
  if (added->tid == kNoOwner) return fail(Error::unsupported("the kernel refuses a robust list"));
  return added;
}

Keeper::~Keeper() {
  for (const auto& owner : owners_) {
    owner->list.list.next = &owner->list.list;
    owner->dismissed.store(1);
    owner->dismissed.notify_one();
    if (owner->thread.joinable()) owner->thread.join();
  }
  ::syscall(SYS_set_robust_list, nullptr, sizeof(robust_list_head));
  struct ::sigaction action{};
  action.sa_handler = SIG_DFL;
  ::sigaction(SIGCHLD, &action, nullptr);
}

// What is on a list is known here as well: the cells are in memory that tasks could write.
Result<> Keeper::enlist(blob::Cell& cell) {
  Owner* const owner = TRY(owner_with_room());
  auto* node = reinterpret_cast<robust_list*>(&cell.robust_next);
  robust_list* const head = &owner->list.list;
  robust_list* const next = head->next;
  cell.word = owner->tid | FUTEX_WAITERS;
  node->next = next;
  std::atomic_signal_fence(std::memory_order_seq_cst);  // the kernel may walk the list at any instant
  head->next = node;
  if (next != head) places_.at(next).previous = node;
  places_[node] = {owner, head, next};
  ++owner->cells;
  return {};
}

void Keeper::dismiss(blob::Cell& cell) {
  const auto found = places_.find(reinterpret_cast<robust_list*>(&cell.robust_next));
  if (found == places_.end()) return;
  const auto [owner, previous, next] = found->second;
  robust_list* const head = &owner->list.list;
  previous->next = next;
  if (previous != head) places_.at(previous).next = next;
  if (next != head) places_.at(next).previous = previous;
  --owner->cells;
  places_.erase(found);
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
  receivers_.erase(tid);
  faults_.erase(tid);
}

void Keeper::note(pid_t tid, int status) {
  if (!WIFSTOPPED(status))
    dead_.insert(tid);
  else if (awaited_.contains(tid))
    stops_[tid] = {status};
  else
    answer(tid, status);
}

// The kernel finds one thread at once, but looks through all of them for any (do_wait).
bool Keeper::collect_of(pid_t tid) {
  int status = 0;
  const pid_t got = ::waitpid(tid, &status, WNOHANG | __WALL);
  if (got == tid) note(tid, status);
  return got == tid;
}

// The kernel tells it to all threads of a tracer's process, not to the tracer alone.
bool Keeper::collect_end(pid_t tid) {
  int status = 0;
  return ::waitpid(tid, &status, WNOHANG | __WALL) == tid && !WIFSTOPPED(status);
}

void Keeper::collect() {
  const std::uint32_t events = child_events.load(std::memory_order_acquire);
  for (;;) {
    int status = 0;
    const pid_t tid = ::waitpid(-1, &status, WNOHANG | __WALL);
    if (tid < 0 && errno == EINTR) continue;
    if (tid <= 0) break;
    note(tid, status);
  }
  collected_ = events;
}

// A held thread has every signal blocked, so the only stops it can make by itself are for SIGSTOP
// (which cannot be blocked) and for a group stop of its process: it is let go on at once. And for a fault in the
// interpreter, which it would repeat for ever.
void Keeper::answer(pid_t tid, int status) {
  const Stop stop{status};
  if (stop.event() == 0 && !receivers_.contains(tid) && std::ranges::count(kFaultSignals, stop.signal()) != 0) {
    const auto info = sys::ptrace::getsiginfo(tid);
    faults_[tid] = {stop.signal(), info ? reinterpret_cast<std::uint64_t>(info->si_addr) : 0};
    any_faulted_ = true;
    return;
  }
  if (stop.event() == 0 && stop.signal() == SIGSTOP) stop_signals_.insert(tid);
  const int deliver = stop.event() == 0 && receivers_.contains(tid) ? stop.signal() : 0;
  if (!sys::ptrace::cont(tid, deliver)) dead_.insert(tid);
}

Result<> Keeper::go_on_after_fault(pid_t tid) {
  faults_.erase(tid);
  return sys::ptrace::cont(tid);
}

// Others are looked at only if this one takes its time: to look for any of them is to look through all.
Result<Stop> Keeper::wait_stop(pid_t tid, Deadline deadline) {
  for (bool late = false;; late = true) {
    const std::uint32_t events = child_events.load(std::memory_order_acquire);
    if (!stops_.contains(tid) && !dead_.contains(tid) && !collect_of(tid) && late && events != collected_) collect();
    if (const auto found = stops_.find(tid); found != stops_.end()) {
      const Stop stop = found->second;
      stops_.erase(found);
      return stop;
    }
    if (dead_.contains(tid)) return fail(Error::task_died(format("thread {} ended", tid)));
    Result<> slept = sleep(nullptr, 0, events, late ? deadline : std::min(deadline, within(kSoon)));
    if (!slept && (late || !slept.error().is_kernel(ETIMEDOUT)))
      return fail(std::move(slept).error().during(format("waiting for thread {} to stop", tid)));
  }
}

Result<> Keeper::wait_word(const std::uint32_t& word, std::uint32_t seen, pid_t tid, Deadline deadline) {
  const int spins = held() > Area::kCrowd ? 0 : kSpins;
  for (int i = 0; i < spins; ++i) {
    if (load(word) != seen) return {};
    __builtin_ia32_pause();
  }
  for (;;) {
    const std::uint32_t events = child_events.load(std::memory_order_acquire);
    if (load(word) != seen) return {};
    if (events != collected_) collect();
    if (dead_.contains(tid)) return fail(Error::task_died(format("thread {} ended", tid)));
    if (const auto fault = faults_.find(tid); fault != faults_.end()) return fail(fault_of(tid, fault->second));
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
