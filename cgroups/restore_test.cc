#include "cgroups/restore.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include <chrono>
#include <list>

#include "cgroups/freezer.h"
#include "cgroups/save.h"
#include "cgroups/testing.h"
#include "images/schema/cgroups.pb.h"
#include "kernel/process.h"

namespace dormouse::cgroups {
namespace {

// --- on a directory tree that stands in for two hierarchies -----------------------------------------

class RestoreFake : public testing::Test {
 protected:
  RestoreFake() {
    tree_.write("cpu/own/cgroup.procs", "");
    tree_.write("v2/own/cgroup.procs", "");
    auto& cpu = *record_.add_controllers();
    cpu.add_cnames("cpu");
    cpu.set_is_threaded(true);
    auto& top = *cpu.add_dirs();
    top.set_dir_name("deep/ctr");
    top.mutable_dir_perms()->set_mode(040750);
    top.mutable_dir_perms()->set_uid(::geteuid());
    top.mutable_dir_perms()->set_gid(::getegid());
    top.add_children()->set_dir_name("child");
    record_.add_controllers()->add_cnames("");
    auto& set = *record_.add_sets();
    set.set_id(2);
    add_member(set, "cpu", "/deep/ctr");
    add_member(set, "", "/own");
    auto& other = *record_.add_sets();
    other.set_id(3);
    add_member(other, "cpu", "/deep/ctr/child");
    add_member(other, "", "/own");
  }
  static void add_member(pb::cg_set_entry& set, const char* name, const char* path) {
    auto& member = *set.add_ctls();
    member.set_name(name);
    member.set_path(path);
  }
  void add_property(const char* name, const char* value) {
    auto& property = *record_.mutable_controllers(0)->mutable_dirs(0)->add_properties();
    property.set_name(name);
    property.set_value(value);
  }
  Layout make_layout() const {
    const auto st = sys::fstatat(AT_FDCWD, tree_.path()).value();
    const auto line = [&](const char* where, const char* type, const char* options) {
      return format("30 20 {}:{} / {}/{} rw - {} x {}\n", major(st.st_dev), minor(st.st_dev), tree_.path(),
                    where, type, options);
    };
    return Layout::parse("1:cpu:/own\n0::/own\n",
                         line("cpu", "cgroup", "rw,cpu") + line("v2", "cgroup2", "rw"))
        .value();
  }
  CgroupRestore make(Mode mode, std::vector<RootOverride> roots = {}) {
    layouts_.push_back(make_layout());
    return CgroupRestore::make(layouts_.back(), &record_, {mode, std::move(roots), 1}).value();
  }

  FakeTree tree_;
  pb::cgroup_entry record_;
  std::list<Layout> layouts_;
};

TEST_F(RestoreFake, MissingGroupsAreMadeAndGoAgainUnlessCommitted) {
  {
    auto restore = make(Mode::kSoft);
    ASSERT_TRUE(restore.prepare());
    EXPECT_TRUE(tree_.exists("cpu/deep/ctr/child"));
    const auto st = sys::fstatat(AT_FDCWD, tree_.path() + "/cpu/deep/ctr").value();
    EXPECT_EQ(st.st_mode & 07777, 0750u);
  }
  EXPECT_FALSE(tree_.exists("cpu/deep"));
  {
    auto restore = make(Mode::kSoft);
    ASSERT_TRUE(restore.prepare());
    restore.commit();
  }
  EXPECT_TRUE(tree_.exists("cpu/deep/ctr/child"));
}

TEST_F(RestoreFake, RollbackLeavesWhatWasThere) {
  tree_.write("cpu/deep/cgroup.procs", "");
  {
    auto restore = make(Mode::kFull);
    ASSERT_TRUE(restore.prepare());
  }
  EXPECT_TRUE(tree_.exists("cpu/deep"));
  EXPECT_FALSE(tree_.exists("cpu/deep/ctr"));
}

TEST_F(RestoreFake, ModesThatDemandOrForbidTheGroups) {
  for (const Mode mode : {Mode::kNone, Mode::kProps}) {
    auto restore = make(mode);
    const auto prepared = restore.prepare();
    ASSERT_FALSE(prepared);
    EXPECT_EQ(prepared.error().kind(), Error::Kind::kConflict);
    EXPECT_EQ(prepared.error().err(), ENOENT);
    EXPECT_EQ(prepared.error().object(), "cgroup /deep/ctr of hierarchy 'cpu'");
  }
  tree_.write("cpu/deep/ctr/child/tasks", "");
  auto strict = make(Mode::kStrict);
  EXPECT_EQ(strict.prepare().error().err(), EEXIST);
  auto none = make(Mode::kNone);
  EXPECT_TRUE(none.prepare());
  EXPECT_NE(sys::fstatat(AT_FDCWD, tree_.path() + "/cpu/deep/ctr").value().st_mode & 07777, 0750u);
}

TEST_F(RestoreFake, PropertiesOfGroupsThatWereThereDependOnTheMode) {
  tree_.write("cpu/deep/ctr/child/tasks", "");
  add_property("cpu.shares", "77");
  for (const auto& [mode, expected] :
       {std::pair{Mode::kSoft, "1024"}, {Mode::kNone, "1024"}, {Mode::kProps, "77"}, {Mode::kFull, "77"}}) {
    tree_.write("cpu/deep/ctr/cpu.shares", "1024");
    auto restore = make(mode);
    ASSERT_TRUE(restore.prepare());
    ASSERT_TRUE(restore.apply_properties());
    EXPECT_TRUE(tree_.read("cpu/deep/ctr/cpu.shares").starts_with(expected));
    EXPECT_TRUE(restore.rollback().empty());
    EXPECT_TRUE(tree_.read("cpu/deep/ctr/cpu.shares").starts_with("1024"));
  }
}

TEST_F(RestoreFake, APropertyThatThisKernelLacksIsToldUnlessItLimitsNothing) {
  tree_.write("cpu/deep/ctr/child/tasks", "");
  add_property("cpu.rt_runtime_us", "0");
  auto harmless = make(Mode::kFull);
  ASSERT_TRUE(harmless.prepare());
  EXPECT_TRUE(harmless.apply_properties());
  add_property("cpu.future", "5");
  auto restore = make(Mode::kFull);
  ASSERT_TRUE(restore.prepare());
  const auto applied = restore.apply_properties();
  ASSERT_FALSE(applied);
  EXPECT_EQ(applied.error().kind(), Error::Kind::kUnsupported);
}

TEST_F(RestoreFake, OnlyDifferencesAreMoved) {
  tree_.write("cpu/deep/ctr/cgroup.procs", "");
  tree_.write("cpu/deep/ctr/tasks", "");
  tree_.write("cpu/deep/ctr/child/cgroup.procs", "");
  tree_.write("cpu/deep/ctr/child/tasks", "");
  auto restore = make(Mode::kSoft);
  ASSERT_TRUE(restore.prepare());
  ASSERT_TRUE(restore.place(42, {2}, {}));
  EXPECT_EQ(tree_.read("cpu/deep/ctr/cgroup.procs"), "42");
  EXPECT_EQ(tree_.read("v2/own/cgroup.procs"), "");  // the engine is there already
  ASSERT_TRUE(restore.place(43, {3}, {2}));
  EXPECT_EQ(tree_.read("cpu/deep/ctr/child/cgroup.procs"), "43");
  ASSERT_TRUE(restore.place(44, {1}, {2}));  // back to where the engine is
  EXPECT_EQ(tree_.read("cpu/own/cgroup.procs"), "44");
  ASSERT_TRUE(restore.place_thread(45, {3}, {2}));
  EXPECT_EQ(tree_.read("cpu/deep/ctr/child/tasks"), "45");
  ASSERT_TRUE(restore.place(46, {2}, {2}));
  EXPECT_EQ(tree_.read("cpu/deep/ctr/cgroup.procs"), "42");
  EXPECT_EQ(restore.place(47, {9}, {}).error().kind(), Error::Kind::kCorruptImage);
  EXPECT_FALSE(restore.unified_directory({2}, {}).value());
}

TEST_F(RestoreFake, AnEngineInsideTheContainersGroupHasNothingToDo) {
  // As runc does it: the groups are made, the engine was started in them, and each is named as a root.
  auto restore = make(Mode::kSoft, {{"cpu", false, "/own"}, {"", false, "/own"}});
  ASSERT_TRUE(restore.prepare());
  ASSERT_TRUE(restore.place(42, {2}, {}));
  EXPECT_EQ(tree_.read("cpu/own/cgroup.procs"), "");
  EXPECT_EQ(tree_.read("v2/own/cgroup.procs"), "");
  ASSERT_TRUE(restore.apply_properties());
}

TEST_F(RestoreFake, IgnoreAndNoRecordDoNothing) {
  auto ignored = make(Mode::kIgnore);
  ASSERT_TRUE(ignored.prepare());
  ASSERT_TRUE(ignored.place(42, {2}, {}));
  auto layout = make_layout();
  auto none = CgroupRestore::make(layout, nullptr, {}).value();
  ASSERT_TRUE(none.prepare());
  ASSERT_TRUE(none.place(42, {2}, {}));
  EXPECT_FALSE(none.has_namespace(2));
  EXPECT_FALSE(tree_.exists("cpu/deep"));
}

TEST_F(RestoreFake, AControllerThatThisNodeLacksIsNamed) {
  record_.mutable_controllers(0)->set_cnames(0, "rdma");
  for (auto& set : *record_.mutable_sets()) set.mutable_ctls(0)->set_name("rdma");
  auto layout = make_layout();
  const auto restore = CgroupRestore::make(layout, &record_, {});
  ASSERT_FALSE(restore);
  EXPECT_EQ(restore.error().object(), "cgroup hierarchy 'rdma'");
  EXPECT_NE(restore.error().remedy(), "");
}

TEST_F(RestoreFake, TheNamespaceBeginsAboveTheSet) {
  for (auto& set : *record_.mutable_sets()) set.mutable_ctls(0)->set_cgns_prefix(5);
  tree_.write("cpu/deep/cgroup.procs", "");
  tree_.write("cpu/deep/ctr/cgroup.procs", "");
  tree_.write("cpu/deep/ctr/child/cgroup.procs", "");
  auto restore = make(Mode::kSoft);
  ASSERT_TRUE(restore.prepare());
  EXPECT_TRUE(restore.has_namespace(2));
  ASSERT_TRUE(restore.place(42, {2, true}, {}));
  EXPECT_EQ(tree_.read("cpu/deep/cgroup.procs"), "42");
  ASSERT_TRUE(restore.place(42, {2}, {2, true}));
  EXPECT_EQ(tree_.read("cpu/deep/ctr/cgroup.procs"), "42");
}

// --- on this node's cgroups (root) ----------------------------------------------------------------

class Sleeper {
 public:
  Sleeper() {
    pid_ = sys::clone3({}).value();
    if (pid_ == 0)
      for (;;) ::syscall(SYS_pause);
  }
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;
  ~Sleeper() {
    (void)sys::kill(pid_, SIGKILL);
    (void)sys::waitid(P_PID, static_cast<id_t>(pid_), WEXITED | __WALL);
  }
  pid_t pid() const { return pid_; }
  std::string cgroup() const { return proc::ProcDir::open(pid_).value().read("cgroup").value(); }

 private:
  pid_t pid_;
};

class CgroupsLive : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    layout_.emplace(Layout::discover().value());
    if (layout_->hierarchies().empty()) GTEST_SKIP() << "this node has no cgroups";
  }
  // A group of the same name in every hierarchy.
  std::list<LiveGroup> groups_everywhere() {
    std::list<LiveGroup> groups;
    for (const auto& hierarchy : layout_->hierarchies()) {
      groups.emplace_back(hierarchy.controllers.front());
      if (!groups.back()) ADD_FAILURE() << hierarchy.name << ": " << groups.back().why_not();
      else if (hierarchy.has("cpuset")) {
        // As any manager of v1 cpusets has to do for a new group.
        const auto copy = [&](const char* file) {
          const auto own = layout_->open(hierarchy, hierarchy.own_path).value();
          const auto value = sys::read_file(own.get(), file).value();
          (void)sys::write_file(AT_FDCWD, groups.back().directory() + "/" + file, value);
        };
        copy("cpuset.cpus");
        copy("cpuset.mems");
      }
    }
    return groups;
  }
  const LiveGroup* group_of(const std::list<LiveGroup>& groups, std::string_view controller) {
    auto group = groups.begin();
    for (const auto& hierarchy : layout_->hierarchies()) {
      if (hierarchy.has(controller)) return &*group;
      ++group;
    }
    return nullptr;
  }
  std::optional<Layout> layout_;
};

TEST_F(CgroupsLive, TasksInOurOwnGroupsNeedNoRecord) {
  const Sleeper task;
  auto saved = SavedCgroups::begin(*layout_, {});
  EXPECT_EQ(saved.set_of(proc::ProcDir::open(task.pid()).value()).value(), SavedCgroups::kOwnSet);
  EXPECT_FALSE(saved.collect().value());
}

TEST_F(CgroupsLive, AHierarchyThatIsMountedMeanwhileHasOnlyItsRoot) {
  const Sleeper task;
  const auto dir = proc::ProcDir::open(task.pid()).value();
  auto saved = SavedCgroups::begin(*layout_, {});
  auto membership = SavedCgroups::membership_of(dir).value();
  const std::string before = std::exchange(membership.text, "99:name=mounted.meanwhile:/\n" + membership.text);
  const auto set = saved.set_of(dir, membership);
  ASSERT_TRUE(set) << set.error().message();
  EXPECT_EQ(*set, SavedCgroups::kOwnSet);
  membership.text = "99:name=mounted.meanwhile:/group\n" + before;
  EXPECT_EQ(saved.set_of(dir, membership).error().kind(), Error::Kind::kUnsupported);
}

TEST_F(CgroupsLive, SavedGroupsComeBackWithLimitsModesAndTasks) {
  pb::cgroup_entry record;
  std::string was;
  {
    const auto groups = groups_everywhere();
    const Sleeper task;
    for (const auto& group : groups) group.add(task.pid());
    if (const auto* const pids = group_of(groups, "pids")) {
      ASSERT_TRUE(sys::write_file(AT_FDCWD, pids->directory() + "/pids.max", "123"));
      ASSERT_TRUE(sys::fchownat(AT_FDCWD, pids->directory() + "/cgroup.procs", 1234, 1235));
      ASSERT_TRUE(sys::fchmodat(AT_FDCWD, pids->directory(), 0710));
    }
    if (const auto* const cpu = group_of(groups, "cpu"))
      (void)sys::write_file(AT_FDCWD, cpu->directory() + "/cpu.shares", "77");
    if (const auto* const memory = group_of(groups, "memory"))
      (void)sys::write_file(AT_FDCWD, memory->directory() + "/memory.limit_in_bytes", "67108864");
    was = task.cgroup();

    const auto begin = std::chrono::steady_clock::now();
    auto fresh = Layout::discover().value();
    auto saved = SavedCgroups::begin(fresh, {});
    EXPECT_EQ(saved.set_of(proc::ProcDir::open(task.pid()).value()).value(), 2u);
    EXPECT_EQ(saved.set_of(proc::ProcDir::open(task.pid()).value()).value(), 2u);
    record = saved.collect().value().value();
    const auto took = std::chrono::steady_clock::now() - begin;
    std::printf("save: %ld us\n", static_cast<long>(std::chrono::duration_cast<std::chrono::microseconds>(took).count()));
    EXPECT_EQ(record.sets_size(), 1);
    EXPECT_EQ(record.controllers_size(), static_cast<int>(layout_->hierarchies().size()));
  }
  {
    auto restore = CgroupRestore::make(*layout_, &record, {Mode::kSoft, {}, 1}).value();
    const auto prepared = restore.prepare();
    ASSERT_TRUE(prepared) << prepared.error().message();
    const Sleeper task;
    const auto placed = restore.place(task.pid(), {2}, {});
    ASSERT_TRUE(placed) << placed.error().message();
    EXPECT_EQ(task.cgroup(), was);
    const auto applied = restore.apply_properties();
    ASSERT_TRUE(applied) << applied.error().message();
    ASSERT_TRUE(restore.apply_freezer());

    auto saved = SavedCgroups::begin(*layout_, {});
    ASSERT_TRUE(saved.set_of(proc::ProcDir::open(task.pid()).value()));
    EXPECT_EQ(saved.collect().value()->SerializeAsString(), record.SerializeAsString());
    (void)sys::kill(task.pid(), SIGKILL);
    (void)sys::waitid(P_PID, static_cast<id_t>(task.pid()), WEXITED | WNOWAIT | __WALL);
    for (const auto& left : restore.rollback()) ADD_FAILURE() << left.message();
  }
}

TEST_F(CgroupsLive, PlacingWhereTheEngineIsCostsNothing) {
  const auto groups = groups_everywhere();
  const Sleeper task;
  for (const auto& group : groups) group.add(task.pid());
  auto saved = SavedCgroups::begin(*layout_, {});
  ASSERT_TRUE(saved.set_of(proc::ProcDir::open(task.pid()).value()));
  const auto record = saved.collect().value().value();
  const pid_t engine = ::fork();
  if (engine == 0) {
    for (const auto& group : groups) group.add(::getpid());
    const auto begin = std::chrono::steady_clock::now();
    auto layout = Layout::discover().value();
    RestoreOptions options{Mode::kSoft, {}, 1};
    for (const auto& hierarchy : layout.hierarchies())
      options.roots.push_back({hierarchy.name, false, hierarchy.own_path});
    auto restore = CgroupRestore::make(layout, &record, options).value();
    bool ok = restore.prepare().has_value() && restore.place(::getpid(), {2}, {}).has_value() &&
              restore.apply_properties().has_value() && restore.apply_freezer().has_value();
    restore.commit();
    const auto took = std::chrono::steady_clock::now() - begin;
    std::printf("restore inside: %ld us\n",
                static_cast<long>(std::chrono::duration_cast<std::chrono::microseconds>(took).count()));
    std::fflush(stdout);
    ::_exit(ok ? 0 : 1);
  }
  const auto outcome = sys::waitid(P_PID, static_cast<id_t>(engine), WEXITED).value().value();
  EXPECT_EQ(outcome.status, 0);
}

TEST_F(CgroupsLive, ANamespaceIsSavedAsAPrefix) {
  const auto groups = groups_everywhere();
  const auto pipe = sys::pipe2().value();
  const pid_t pid = ::fork();
  if (pid == 0) {
    for (const auto& group : groups) group.add(::getpid());
    const bool ok = ::unshare(CLONE_NEWCGROUP) == 0;
    (void)sys::write_all(pipe.write_end.get(), ok ? "y" : "n");
    for (;;) ::pause();
  }
  std::string said(1, '\0');
  ASSERT_TRUE(sys::read_exactly(pipe.read_end.get(), std::as_writable_bytes(std::span(said))));
  const std::string own_before = sys::readlinkat(AT_FDCWD, "/proc/self/ns/cgroup").value();
  if (said == "y") {
    auto saved = SavedCgroups::begin(*layout_, {});
    const auto set = saved.set_of(proc::ProcDir::open(pid).value());
    EXPECT_TRUE(set) << set.error().message();
    const auto record = saved.collect().value().value();
    for (const auto& member : record.sets(0).ctls()) EXPECT_EQ(member.cgns_prefix(), member.path().size());
    EXPECT_EQ(sys::readlinkat(AT_FDCWD, "/proc/self/ns/cgroup").value(), own_before);
    const Sleeper other;
    EXPECT_EQ(saved.set_of(proc::ProcDir::open(other.pid()).value()).error().kind(),
              Error::Kind::kUnsupported);
  }
  (void)sys::kill(pid, SIGKILL);
  (void)sys::waitid(P_PID, static_cast<id_t>(pid), WEXITED);
  if (said != "y") GTEST_SKIP() << "cgroup namespaces are not allowed here";
}

}  // namespace
}  // namespace dormouse::cgroups
