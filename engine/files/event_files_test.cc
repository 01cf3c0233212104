// eventfd, signalfd and timerfd: state in, state out.
#include <gmock/gmock.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include "engine/files/live_table.h"

namespace dormouse::engine {
namespace {

using testing::HasSubstr;

class EventFilesTest : public LiveTable {
 protected:
  void dump_and_end() {
    ASSERT_TRUE(dump()) << blockers().front();
    end();
    load();
  }
};

std::uint64_t read_counter(int fd) {
  std::uint64_t value = 0;
  must(sys::read_exactly(fd, std::as_writable_bytes(std::span(&value, 1))));
  return value;
}

TEST_F(EventFilesTest, CountersComeBack) {
  add_child([] {
    place(::eventfd(7, EFD_NONBLOCK), 5);
    const std::uint64_t large = 5'000'000'000;  // beyond what eventfd() itself can set
    (void)!::write(5, &large, sizeof large);
    place(::eventfd(0, 0), 6);
  });
  dump_and_end();
  EXPECT_EQ(read_counter(must(reopen(5))), 5'000'000'007u);
  EXPECT_NE(must(sys::fcntl(must(reopen(5)), F_GETFL)) & O_NONBLOCK, 0);
  EXPECT_EQ(saved_file(6).efd().counter(), 0u);
}

TEST_F(EventFilesTest, SemaphoresStaySemaphores) {
  add_child([] { place(::eventfd(3, EFD_SEMAPHORE), 5); });
  dump_and_end();
  EXPECT_EQ(read_counter(must(reopen(5))), 1u);
  EXPECT_EQ(read_counter(must(reopen(5))), 1u);
}

TEST_F(EventFilesTest, ImpossibleCountersAreRefusedInsteadOfBlocking) {
  add_child([] { place(::eventfd(3, 0), 5); });
  dump_and_end();
  image.files[descriptor(5)->id()].mutable_efd()->set_counter(~std::uint64_t{0});
  const auto opened = reopen(5);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().kind(), Error::Kind::kCorruptImage);
}

TEST_F(EventFilesTest, SignalMasksComeBack) {
  add_child([] {
    ::sigset_t mask;
    ::sigemptyset(&mask);
    ::sigaddset(&mask, SIGUSR1);
    ::sigaddset(&mask, 40);
    place(::signalfd(-1, &mask, SFD_NONBLOCK), 5);
  });
  dump_and_end();
  EXPECT_EQ(saved_file(5).sgfd().sigmask(), 1ull << (SIGUSR1 - 1) | 1ull << 39);
  const int fd = must(reopen(5));
  EXPECT_THAT(must(sys::read_file(AT_FDCWD, format("/proc/self/fdinfo/{}", fd))), HasSubstr("sigmask:\t0000008000000200"));
  EXPECT_NE(must(sys::fcntl(fd, F_GETFL)) & O_NONBLOCK, 0);
}

::itimerspec time_left(int fd) {
  ::itimerspec value{};
  EXPECT_EQ(::timerfd_gettime(fd, &value), 0);
  return value;
}

TEST_F(EventFilesTest, TimersGoOnWithTheTimeThatWasLeft) {
  add_child([] {
    place(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), 5);
    const ::itimerspec value{{10, 5}, {1000, 0}};
    ::timerfd_settime(5, 0, &value, nullptr);
    place(::timerfd_create(CLOCK_REALTIME, 0), 6);
    ::itimerspec absolute{};
    ::clock_gettime(CLOCK_REALTIME, &absolute.it_value);
    absolute.it_value.tv_sec += 500;
    ::timerfd_settime(6, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &absolute, nullptr);
    place(::timerfd_create(CLOCK_BOOTTIME, 0), 7);
  });
  dump_and_end();
  const int periodic = must(reopen(5)), absolute = must(reopen(6)), idle = must(reopen(7));
  must(restored().refill());
  EXPECT_NEAR(static_cast<double>(time_left(periodic).it_value.tv_sec), 999, 1);
  EXPECT_EQ(time_left(periodic).it_interval.tv_sec, 10);
  EXPECT_EQ(time_left(periodic).it_interval.tv_nsec, 5);
  EXPECT_NEAR(static_cast<double>(time_left(absolute).it_value.tv_sec), 499, 1);
  EXPECT_THAT(must(sys::read_file(AT_FDCWD, format("/proc/self/fdinfo/{}", absolute))), HasSubstr("settime flags: 03"));
  EXPECT_EQ(time_left(idle).it_value.tv_sec, 0);
}

TEST_F(EventFilesTest, ExpirationsNotYetReadComeBack) {
  add_child([] {
    place(::timerfd_create(CLOCK_MONOTONIC, 0), 5);
    const ::itimerspec value{{0, 0}, {0, 1}};
    ::timerfd_settime(5, 0, &value, nullptr);
    ::usleep(2000);
  });
  dump_and_end();
  EXPECT_EQ(saved_file(5).tfd().ticks(), 1u);
  const int fd = must(reopen(5));
  must(restored().refill());
  EXPECT_EQ(read_counter(fd), 1u);
}

TEST_F(EventFilesTest, ImpossibleTimesAreRefused) {
  add_child([] { place(::timerfd_create(CLOCK_MONOTONIC, 0), 5); });
  dump_and_end();
  image.files[descriptor(5)->id()].mutable_tfd()->set_vnsec(~0ull);
  must(reopen(5));
  EXPECT_FALSE(restored().refill());
}

}  // namespace
}  // namespace dormouse::engine
