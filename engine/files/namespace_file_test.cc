#include "engine/files/namespace_file.h"

#include <gmock/gmock.h>

#include "engine/files/live_table.h"

namespace dormouse::engine {
namespace {

using testing::HasSubstr;

TEST(NamespaceLinks, TellTheKind) {
  EXPECT_EQ(namespace_kind_of_link("net:[4026531840]")->flag, CLONE_NEWNET);
  EXPECT_EQ(namespace_kind_of_link("mnt:[1]")->flag, CLONE_NEWNS);
  for (const auto* const link : {"pipe:[1]", "netx:[1]", "/net:[1]", "net", ""})
    EXPECT_EQ(namespace_kind_of_link(link), nullptr) << link;
}

TEST(NamespaceLinks, EveryKindHasItsNumber) {
  pb::task_kobj_ids_entry ids;
  ids.set_pid_ns_id(1);
  ids.set_net_ns_id(2);
  ids.set_ipc_ns_id(3);
  ids.set_uts_ns_id(4);
  ids.set_time_ns_id(5);
  ids.set_mnt_ns_id(6);
  ids.set_user_ns_id(7);
  ids.set_cgroup_ns_id(8);
  std::uint32_t expected = 1;  // the order of the kinds
  for (const NamespaceKind& kind : kNamespaceKinds) EXPECT_EQ(namespace_number(ids, kind.flag), expected++) << kind.name;
}

class NamespaceFileTest : public LiveTable {
 protected:
  // As if a checkpoint had written it.
  void have(std::uint32_t number, std::uint64_t flag) {
    add_child([] { place(::open("/dev/null", O_RDONLY), 5); });
    ASSERT_TRUE(dump());
    load();
    ImageTask task;
    task.tree.set_pid(7);
    task.core.mutable_tc()->set_task_state(1);
    task.ids.set_net_ns_id(3);
    image.tasks.push_back(task);
    pb::file_entry& record = image.files[descriptor(5)->id()];
    record.set_type(pb::NS);
    record.mutable_nsf()->set_ns_id(number);
    record.mutable_nsf()->set_ns_cflag(static_cast<std::uint32_t>(flag));
    restored().set_pid_lookup([](pid_t) { return ::getpid(); });
  }
};

TEST_F(NamespaceFileTest, IsThatOfATaskThatLivesInIt) {
  have(3, CLONE_NEWNET);
  const auto opened = must(sys::fstat(must(reopen(5))));
  EXPECT_EQ(opened.st_ino, must(sys::fstatat(AT_FDCWD, "/proc/self/ns/net")).st_ino);
}

TEST_F(NamespaceFileTest, OfAnotherKindOrNobodysIsCorrupt) {
  have(3, CLONE_NEWUTS);
  EXPECT_THAT(reopen(5).error().message(), HasSubstr("no task lives in uts namespace 3"));
  image.files[descriptor(5)->id()].mutable_nsf()->set_ns_cflag(CLONE_VM);
  EXPECT_THAT(reopen(5).error().message(), HasSubstr("no kind of namespace"));
  image.files[descriptor(5)->id()].mutable_nsf()->set_ns_cflag(CLONE_NEWNET);
  image.files[descriptor(5)->id()].mutable_nsf()->set_ns_id(0);
  EXPECT_EQ(reopen(5).error().kind(), Error::Kind::kCorruptImage);
}

}  // namespace
}  // namespace dormouse::engine
