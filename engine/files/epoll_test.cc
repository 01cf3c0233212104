#include "engine/files/epoll.h"

#include <gmock/gmock.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#include "engine/files/live_table.h"

namespace dormouse::engine {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

void watch(int epoll, int target, std::uint32_t events, std::uint64_t data) {
  ::epoll_event event{};
  event.events = events;
  event.data.u64 = data;
  ::epoll_ctl(epoll, EPOLL_CTL_ADD, target, &event);
}

class EpollTest : public LiveTable {
 protected:
  void dump_and_end() {
    ASSERT_TRUE(dump()) << blockers().front();
    end();
    load();
  }
};

TEST_F(EpollTest, WatchesAreToldByTable) {
  add_child([] {
    place(::epoll_create1(0), 5);
    place(::eventfd(0, 0), 6);
    place(::eventfd(0, 0), 7);
    watch(5, 6, EPOLLIN | EPOLLET, 0x1122334455667788);
    watch(5, 7, EPOLLOUT, 7);
  });
  dump_and_end();
  const auto watches = epoll_watches(image);
  ASSERT_EQ(watches.size(), 1u);
  ASSERT_EQ(watches.at(1).size(), 2u);
  const EpollWatch& first = watches.at(1)[0].target == 6 ? watches.at(1)[0] : watches.at(1)[1];
  EXPECT_EQ(first.epoll, 5);
  EXPECT_EQ(first.target, 6);
  EXPECT_EQ(first.events & (EPOLLIN | EPOLLET), EPOLLIN | EPOLLET);
  EXPECT_EQ(first.data, 0x1122334455667788u);

  // As the task does: under the saved numbers, in a process of its own.
  const int epoll = must(reopen(5)), one = must(reopen(6)), other = must(reopen(7));
  Child restored_task([&] {
    // The set-up closed the test's descriptors; they are fetched back from it.
    const Fd parent = must(sys::pidfd_open(::getppid()));
    place(must(sys::pidfd_getfd(parent.get(), epoll)).release(), 15);
    place(must(sys::pidfd_getfd(parent.get(), one)).release(), 6);
    place(must(sys::pidfd_getfd(parent.get(), other)).release(), 7);
    for (const EpollWatch& each : watches.at(1)) watch(15, each.target, each.events, each.data);
  });
  const std::uint64_t up = 1;
  must(sys::write_all(one, std::as_bytes(std::span(&up, 1))));
  ::epoll_event events[4];
  const int count = ::epoll_wait(epoll, events, 4, 1000);
  ASSERT_EQ(count, 2);
  EXPECT_THAT((std::vector<std::uint64_t>{events[0].data.u64, events[1].data.u64}),
              testing::UnorderedElementsAre(0x1122334455667788u, 7u));
}

TEST_F(EpollTest, AFileUnderAnotherNumberIsFound) {
  add_child([] {
    place(::epoll_create1(0), 5);
    place(::eventfd(0, 0), 6);
    watch(5, 6, EPOLLIN, 1);
    ::dup2(6, 7);
    ::close(6);
    place(::eventfd(0, 0), 6);  // the number is taken by another file
    watch(5, 6, EPOLLIN, 2);
  });
  dump_and_end();
  std::map<int, std::uint64_t> data_by_target;
  const auto watches = epoll_watches(image);
  for (const EpollWatch& each : watches.at(1)) data_by_target[each.target] = each.data;
  EXPECT_EQ(data_by_target, (std::map<int, std::uint64_t>{{6, 2}, {7, 1}}));
}

TEST_F(EpollTest, AWatchThatNobodyCanReachIsRefused) {
  add_child([] {
    place(::epoll_create1(0), 5);
    place(::eventfd(0, 0), 6);
    watch(5, 6, EPOLLIN, 1);
    const pid_t keeper = ::fork();  // has the file; the task itself does not
    if (keeper == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::close(Child::kReady);
      for (;;) ::pause();
    }
    ::close(6);
  });
  EXPECT_FALSE(dump());
  EXPECT_THAT(blockers(), ElementsAre(AllOf(HasSubstr("descriptor 5 -> anon_inode:[eventpoll]"), HasSubstr("(victim)"),
                                            HasSubstr("descriptor 6"), HasSubstr("EPOLL_CTL_DEL"))));
}

TEST(EpollWatches, EachOnceAmongTablesThatShareAnInstance) {
  Image image;
  auto& epoll = image.files[1];
  epoll.set_type(pb::EVENTPOLL);
  auto* const one = epoll.mutable_epfd()->add_tfd();
  one->set_tfd(8);
  auto* const other = epoll.mutable_epfd()->add_tfd();
  other->set_tfd(9);
  const auto slot = [](std::uint32_t number, std::uint32_t id, pb::fd_types type) {
    pb::fdinfo_entry entry;
    entry.set_fd(number);
    entry.set_id(id);
    entry.set_type(type);
    return entry;
  };
  image.descriptors[10] = {slot(5, 1, pb::EVENTPOLL), slot(8, 2, pb::PIPE)};
  image.descriptors[11] = {slot(6, 1, pb::EVENTPOLL), slot(8, 2, pb::PIPE), slot(9, 3, pb::PIPE)};
  const auto watches = epoll_watches(image);
  ASSERT_EQ(watches.at(10).size(), 1u);
  EXPECT_EQ(watches.at(10)[0].epoll, 5);
  EXPECT_EQ(watches.at(10)[0].target, 8);
  ASSERT_EQ(watches.at(11).size(), 1u);
  EXPECT_EQ(watches.at(11)[0].epoll, 6);
  EXPECT_EQ(watches.at(11)[0].target, 9);
}

}  // namespace
}  // namespace dormouse::engine
