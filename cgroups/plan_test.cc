#include "cgroups/plan.h"

#include <gtest/gtest.h>

#include "images/schema/cgroups.pb.h"

namespace dormouse::cgroups {
namespace {

// One v1 hierarchy "cpu,cpuacct" and v2, one set per path.
pb::cgroup_entry record_with(const std::vector<std::string>& paths, std::uint32_t prefix = 0) {
  pb::cgroup_entry record;
  auto& cpu = *record.add_controllers();
  cpu.add_cnames("cpu");
  cpu.add_cnames("cpuacct");
  auto& unified = *record.add_controllers();
  unified.add_cnames("");
  std::uint32_t id = 2;
  for (const auto& path : paths) {
    auto& set = *record.add_sets();
    set.set_id(id++);
    for (const char* const name : {"", "cpu,cpuacct"}) {
      auto& member = *set.add_ctls();
      member.set_name(name);
      member.set_path(path);
      if (prefix) member.set_cgns_prefix(prefix);
    }
  }
  return record;
}

std::string paths_of(const Plan& plan, std::size_t hierarchy) {
  std::string text;
  for (const auto& set : plan.sets)
    for (const auto& member : set.members)
      if (member.hierarchy == hierarchy)
        text += member.path + (member.namespace_root ? "(" + *member.namespace_root + ")" : "") + " ";
  for (const auto& group : plan.hierarchies[hierarchy].groups) text += "[" + group.path + "]";
  return text;
}

TEST(Plan, GroupsComeParentsFirstWithWholePaths) {
  auto record = record_with({"/a/b"});
  auto& top = *record.mutable_controllers(0)->add_dirs();
  top.set_dir_name("a/b");
  top.mutable_dir_perms()->set_mode(040755);
  auto& child = *top.add_children();
  child.set_dir_name("c");
  child.add_children()->set_dir_name("d");
  auto& property = *child.add_properties();
  property.set_name("cpu.shares");
  property.set_value("7");
  const auto plan = make_plan(record, {}).value();
  EXPECT_EQ(paths_of(plan, 0), "/a/b [/a/b][/a/b/c][/a/b/c/d]");
  EXPECT_EQ(plan.hierarchies[0].groups[0].perms, (Perms{0755, 0, 0}));
  EXPECT_EQ(plan.hierarchies[0].groups[1].properties.at(0).value, "7");
}

TEST(Plan, TheTopOfAHierarchyIsASlash) {
  auto record = record_with({"/"});
  record.mutable_controllers(0)->add_dirs()->set_dir_name("");
  EXPECT_EQ(paths_of(make_plan(record, {}).value(), 0), "/ [/]");
  const RootOverride roots[] = {{"", true, "/new"}};
  EXPECT_EQ(paths_of(make_plan(record, roots).value(), 0), "/new [/new]");
}

TEST(Plan, ANewRootReplacesWhatTheTasksHaveInCommon) {
  auto record = record_with({"/old/ctr", "/old/ctr/x/y"});
  auto& top = *record.mutable_controllers(0)->add_dirs();
  top.set_dir_name("old/ctr");
  top.add_children()->set_dir_name("x");
  const RootOverride roots[] = {{"cpu,cpuacct", false, "/new/"}, {"", false, "/v2"}};
  const auto plan = make_plan(record, roots).value();
  EXPECT_EQ(paths_of(plan, 0), "/new /new/x/y [/new][/new/x]");
  EXPECT_EQ(paths_of(plan, 1), "/v2 /v2/x/y ");
}

TEST(Plan, ANewRootReplacesTheOneOfTheCheckpoint) {
  auto record = record_with({"/prefix/old"});
  auto& top = *record.mutable_controllers(0)->add_dirs();
  top.set_dir_name("prefix");
  top.add_children()->set_dir_name("old");
  const RootOverride same[] = {{"", true, "/prefix"}}, other[] = {{"", true, "/new"}};
  EXPECT_EQ(paths_of(make_plan(record, same).value(), 0), "/prefix/old [/prefix][/prefix/old]");
  EXPECT_EQ(paths_of(make_plan(record, other).value(), 0), "/new/old [/new][/new/old]");
}

TEST(Plan, SiblingsStayApartUnderTheNewRoot) {
  const RootOverride roots[] = {{"", true, "/new"}};
  EXPECT_EQ(paths_of(make_plan(record_with({"/ctr/init", "/ctr/service"}), roots).value(), 0),
            "/new/init /new/service ");
  EXPECT_EQ(paths_of(make_plan(record_with({"/ctr", "/ctrl"}), roots).value(), 0), "/new/ctr /new/ctrl ");
}

TEST(Plan, ANamespacesBeginningBecomesTheNewRoot) {
  const RootOverride roots[] = {{"", true, "/new"}};
  EXPECT_EQ(paths_of(make_plan(record_with({"/ctr/init"}, 4), {}).value(), 0), "/ctr/init(/ctr) ");
  EXPECT_EQ(paths_of(make_plan(record_with({"/ctr/init"}, 4), roots).value(), 0), "/new/init(/new) ");
}

TEST(Plan, ASpecificRootGoesBeforeAGeneralOne) {
  const RootOverride roots[] = {{"", true, "/all"}, {"cpuacct", false, "/cpu"}};
  const auto plan = make_plan(record_with({"/ctr"}), roots).value();
  EXPECT_EQ(paths_of(plan, 0), "/cpu ");
  EXPECT_EQ(paths_of(plan, 1), "/all ");
  const RootOverride twice[] = {{"cpu", false, "/one"}, {"cpuacct", false, "/two"}};
  EXPECT_EQ(make_plan(record_with({"/ctr"}), twice).error().kind(), Error::Kind::kBadOption);
}

TEST(Plan, NothingLeadsOutOfItsHierarchy) {
  EXPECT_EQ(make_plan(record_with({"/a/../../etc"}), {}).error().kind(), Error::Kind::kCorruptImage);
  auto record = record_with({"/a"});
  auto& top = *record.mutable_controllers(0)->add_dirs();
  top.set_dir_name("..");
  EXPECT_EQ(make_plan(record, {}).error().kind(), Error::Kind::kCorruptImage);
  top.set_dir_name("a");
  auto& property = *top.add_properties();
  property.set_value("1");
  for (const char* const name : {"../release_agent", "", ".."}) {
    property.set_name(name);
    EXPECT_EQ(make_plan(record, {}).error().kind(), Error::Kind::kCorruptImage) << name;
  }
}

TEST(Plan, ContradictionsAreCorruption) {
  auto twice = record_with({"/a", "/b"});
  twice.mutable_sets(1)->set_id(2);
  EXPECT_EQ(make_plan(twice, {}).error().kind(), Error::Kind::kCorruptImage);
  auto unknown = record_with({"/a"});
  unknown.mutable_sets(0)->mutable_ctls(0)->set_name("memory");
  EXPECT_EQ(make_plan(unknown, {}).error().kind(), Error::Kind::kCorruptImage);
  EXPECT_EQ(make_plan(record_with({"/ab/c"}, 2), {}).error().kind(), Error::Kind::kCorruptImage);
  EXPECT_EQ(make_plan(record_with({"/ab"}, 9), {}).error().kind(), Error::Kind::kCorruptImage);
}

}  // namespace
}  // namespace dormouse::cgroups
