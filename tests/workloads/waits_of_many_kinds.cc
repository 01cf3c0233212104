// bits: 64 32
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include <atomic>

#include "tests/workloads/workload.h"

// One thread for each kind of wait; none may end, or fail, before what it waits for has come.
namespace {

std::atomic<int> g_waiting{0}, g_over{0};
std::atomic<bool> g_may_end{false};
int g_event, g_epoll, g_epolled, g_listener, g_pair[2], g_timer;
int g_lock = 0, g_bits = 0;
pid_t g_child;

long futex(int* word, int operation, int value, const timespec* timeout, int* second = nullptr, unsigned bits = ~0u) {
  return syscall(SYS_futex, word, operation, value, timeout, second, bits);
}
timespec in_seconds(clockid_t clock, long seconds) {
  timespec now{};
  MUST(clock_gettime(clock, &now));
  now.tv_sec += seconds;
  return now;
}

void read_event() {
  uint64_t value = 0;
  CHECK_EQ(MUST(read(g_event, &value, sizeof value)), 8);
  CHECK_EQ(value, 5u);
}
void wait_for_epoll(int timeout) {
  epoll_event event{};
  // Where there is a timeout, to end with EINTR when it is stopped is the kernel's way.
  int got = -1;
  while ((got = epoll_wait(g_epoll, &event, 1, timeout)) == -1 && errno == EINTR && timeout >= 0) {
  }
  CHECK_EQ(MUST(got), 1);
  CHECK_EQ(event.data.u32, 77u);
}
void epoll_for_ever() { wait_for_epoll(-1); }
void epoll_with_timeout() { wait_for_epoll(100'000); }
void accept_one() { close(MUST(accept(g_listener, nullptr, nullptr))); }
void receive() {
  char byte = 0;
  CHECK_EQ(MUST(recv(g_pair[0], &byte, 1, 0)), 1);
  CHECK_EQ(byte, 's');
}
void read_timer() {
  uint64_t ticks = 0;
  CHECK_EQ(MUST(read(g_timer, &ticks, sizeof ticks)), 8);
}
void sleep_until() {
  const timespec end = in_seconds(CLOCK_MONOTONIC, 2);
  CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, nullptr), 0);
  timespec now{};
  MUST(clock_gettime(CLOCK_MONOTONIC, &now));
  CHECK(now.tv_sec > end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec >= end.tv_nsec));
  while (!g_may_end) usleep(1000);  // it may be over before the others
}
void wait_for_signal() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 5);
  CHECK_EQ(MUST(sigwaitinfo(&set, nullptr)), SIGRTMIN + 5);
}
void wait_for_child() {
  siginfo_t info{};
  MUST(waitid(P_PID, static_cast<id_t>(g_child), &info, WEXITED));
  CHECK_EQ(info.si_status, 0);
}
void lock_inheriting() { CHECK_EQ(futex(&g_lock, FUTEX_LOCK_PI, 0, nullptr), 0L); }
void wait_for_bits() {
  const timespec end = in_seconds(CLOCK_REALTIME, 100);
  CHECK_EQ(futex(&g_bits, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &end, nullptr, 4), 0L);
}

constexpr void (*kWaits[])() = {read_event,  epoll_for_ever, epoll_with_timeout, accept_one,     receive,        read_timer,
                                sleep_until, wait_for_signal, wait_for_child,    lock_inheriting, wait_for_bits};
constexpr int kCount = sizeof kWaits / sizeof *kWaits;

void* body(void* argument) {
  void (*const wait)() = *static_cast<void (*const*)()>(argument);
  ++g_waiting;
  wait();
  CHECK(g_may_end);
  ++g_over;
  return nullptr;
}

sockaddr_un name_of_listener() {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  strcpy(name.sun_path, "listener");
  return name;
}

void make_objects() {
  g_event = MUST(eventfd(0, 0));
  g_epoll = MUST(epoll_create1(0));
  g_epolled = MUST(eventfd(0, 0));
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u32 = 77;
  MUST(epoll_ctl(g_epoll, EPOLL_CTL_ADD, g_epolled, &event));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, g_pair));
  g_listener = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
  const sockaddr_un name = name_of_listener();
  MUST(bind(g_listener, reinterpret_cast<const sockaddr*>(&name), sizeof name));
  MUST(listen(g_listener, 5));
  g_timer = MUST(timerfd_create(CLOCK_MONOTONIC, 0));
  itimerspec far{};
  far.it_value.tv_sec = 1000;
  MUST(timerfd_settime(g_timer, 0, &far, nullptr));
  // Whoever waits for it sets the bit that says so; to unlock is the kernel's business then.
  CHECK_EQ(futex(&g_lock, FUTEX_LOCK_PI, 0, nullptr), 0L);
}

void let_all_go(const pthread_t* threads) {
  g_may_end = true;
  const uint64_t five = 5, one = 1;
  MUST(write(g_event, &five, sizeof five));
  MUST(write(g_epolled, &one, sizeof one));
  const int peer = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
  const sockaddr_un name = name_of_listener();
  MUST(connect(peer, reinterpret_cast<const sockaddr*>(&name), sizeof name));
  MUST(write(g_pair[1], "s", 1));
  itimerspec soon{};
  soon.it_value.tv_nsec = 1;
  MUST(timerfd_settime(g_timer, 0, &soon, nullptr));
  CHECK_EQ(pthread_kill(threads[7], SIGRTMIN + 5), 0);
  workload::tell_to_go(g_child);
  CHECK_EQ(futex(&g_lock, FUTEX_UNLOCK_PI, 0, nullptr), 0L);
  CHECK_EQ(futex(&g_bits, FUTEX_WAKE_BITSET, 1, nullptr, nullptr, 4), 1L);
}

}  // namespace

WORKLOAD("waits of many kinds that were going on end when what they wait for comes, and not before") {
  sigset_t all;
  sigfillset(&all);
  CHECK_EQ(pthread_sigmask(SIG_BLOCK, &all, nullptr), 0);
  make_objects();
  g_child = workload::fork_child([] { workload::checkpoint_here(); });
  pthread_t threads[kCount];
  for (int i = 0; i < kCount; ++i)
    CHECK_EQ(pthread_create(&threads[i], nullptr, body, const_cast<void (**)()>(&kWaits[i])), 0);
  while (g_waiting < kCount) usleep(100);
  usleep(5000);
  workload::checkpoint_here();
  usleep(20'000);
  CHECK_EQ(g_over.load(), 0);
  let_all_go(threads);
  for (pthread_t thread : threads) CHECK_EQ(pthread_join(thread, nullptr), 0);
}
