#include "shim/option_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <set>

namespace dormouse::shim {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Expectations look at what the engine gets: a member that moves between the common and the own
// options would otherwise be set where nobody looks.

// Applies "--name=value" the way every source does.
Result<> set(Settings& settings, std::string_view name, std::optional<std::string> value = {}) {
  const Spelling spelling = find_spelling(name).value();
  OptionUse use{.option = spelling.option, .on = spelling.on};
  use.value = std::move(value);
  use.origin = format("option --{}", name);
  return apply(settings, use);
}

std::string text_of(const std::vector<Error>& errors) {
  std::string text;
  for (const Error& error : errors) text += error.message() + '\n';
  return text;
}

TEST(OptionTable, NamesAndLettersAreUniqueAndEachRowDoesOneThing) {
  std::set<std::string_view> names;
  std::set<char> letters;
  for (const Option& option : option_table()) {
    if (option.name.empty()) continue;  // a title of the help text
    EXPECT_TRUE(names.insert(option.name).second) << option.name;
    EXPECT_TRUE(!option.letter || letters.insert(option.letter).second) << option.letter;
    const int deeds = !!option.flag + !!option.apply + !option.missing.empty();
    EXPECT_EQ(deeds, 1) << option.name;
    EXPECT_TRUE(!option.flag || option.argument == Argument::kFlag) << option.name;
  }
}

// Every option that the reference prints in its help, and the older manual's.
TEST(OptionTable, KnowsTheWholeCommandLineOfTheReference) {
  for (const std::string_view name : {"tree",
                                      "restore-detached",
                                      "restore-sibling",
                                      "leave-stopped",
                                      "leave-running",
                                      "images-dir",
                                      "pidfile",
                                      "work-dir",
                                      "cpu-cap",
                                      "exec-cmd",
                                      "freeze-cgroup",
                                      "weak-sysctls",
                                      "lazy-pages",
                                      "stream",
                                      "mntns-compat-mode",
                                      "network-lock",
                                      "unprivileged",
                                      "allow-uprobes",
                                      "external",
                                      "tcp-established",
                                      "skip-in-flight",
                                      "tcp-close",
                                      "root",
                                      "evasive-devices",
                                      "link-remap",
                                      "ghost-limit",
                                      "ghost-fiemap",
                                      "action-script",
                                      "shell-job",
                                      "file-locks",
                                      "libdir",
                                      "timeout",
                                      "force-irmap",
                                      "irmap-scan-path",
                                      "manage-cgroups",
                                      "cgroup-root",
                                      "cgroup-props",
                                      "cgroup-props-file",
                                      "cgroup-dump-controller",
                                      "cgroup-yard",
                                      "lsm-profile",
                                      "lsm-mount-context",
                                      "skip-mnt",
                                      "enable-fs",
                                      "inherit-fd",
                                      "empty-ns",
                                      "join-ns",
                                      "file-validation",
                                      "skip-file-rwx-check",
                                      "extra",
                                      "experimental",
                                      "all",
                                      "feature",
                                      "log-file",
                                      "log-pid",
                                      "verbosity",
                                      "display-stats",
                                      "track-mem",
                                      "prev-images-dir",
                                      "page-server",
                                      "auto-dedup",
                                      "pre-dump-mode",
                                      "address",
                                      "port",
                                      "ps-socket",
                                      "daemon",
                                      "status-fd",
                                      "tls-cacert",
                                      "tls-cacrl",
                                      "tls-cert",
                                      "tls-key",
                                      "tls",
                                      "tls-no-cn-verify",
                                      "config",
                                      "no-default-config",
                                      "help",
                                      "version",
                                      "ext-unix-sk",
                                      "ext-mount-map",
                                      "enable-external-sharing",
                                      "enable-external-masters",
                                      "veth-pair",
                                      "close",
                                      "ms",
                                      "deprecated",
                                      "cgroup-props-ignore-default",
                                      "namespaces"})
    EXPECT_NE(find_option(name), nullptr) << name;
  for (const char letter : std::string_view("tdSsRDWhVrJxjlLMovnfc"))
    EXPECT_NE(find_option(letter), nullptr) << letter;
}

TEST(OptionTable, TheBeginningOfANameWillDoIfItIsTheOnlyOne) {
  EXPECT_EQ(find_spelling("images")->option->name, "images-dir");
  EXPECT_EQ(find_spelling("tls")->option->name, "tls");  // a whole name, and the beginning of others
  const auto negated = find_spelling("no-shell");
  ASSERT_TRUE(negated);
  EXPECT_EQ(negated->option->name, "shell-job");
  EXPECT_FALSE(negated->on);
  EXPECT_EQ(find_spelling("leave").error().message(), "it may mean --leave-stopped, --leave-running");
  EXPECT_EQ(find_spelling("nosuch").error().message(), "unknown option");
  EXPECT_FALSE(find_spelling(""));
}

TEST(OptionTable, FlagsCanBeNegatedAndOthersCannot) {
  Settings settings;
  ASSERT_TRUE(set(settings, "tcp-established"));
  EXPECT_TRUE(settings.common.tcp_established);
  ASSERT_TRUE(set(settings, "no-tcp-established"));
  EXPECT_FALSE(settings.common.tcp_established);
  EXPECT_FALSE(find_spelling("no-images-dir"));
  EXPECT_FALSE(find_spelling("no-leave-running"));
}

TEST(OptionTable, ValuesAreDemandedAndRefused) {
  Settings settings;
  EXPECT_EQ(set(settings, "root").error().message(), "option --root: it needs a value");
  EXPECT_EQ(set(settings, "shell-job", "yes").error().message(),
            "option --shell-job: it takes no value");
  EXPECT_EQ(set(settings, "tree", "12x").error().message(),
            "option --tree: \"12x\" is not a process id");
  EXPECT_FALSE(set(settings, "tree", "0"));
  EXPECT_FALSE(set(settings, "tree", "-5"));
}

TEST(OptionTable, TheLastOfLeaveRunningAndLeaveStoppedWins) {
  Settings settings;
  ASSERT_TRUE(set(settings, "leave-running"));
  EXPECT_EQ(checkpoint_options(settings).after, engine::AfterDump::kResume);
  ASSERT_TRUE(set(settings, "leave-stopped"));
  EXPECT_EQ(checkpoint_options(settings).after, engine::AfterDump::kStop);
  EXPECT_TRUE(restore_options(settings).leave_stopped);
}

TEST(OptionTable, SizesModesAndTimes) {
  Settings settings;
  ASSERT_TRUE(set(settings, "ghost-limit", "2M"));
  EXPECT_EQ(settings.common.ghost_limit_bytes, 2u << 20);
  ASSERT_TRUE(set(settings, "ghost-limit", "268435456"));
  EXPECT_EQ(settings.common.ghost_limit_bytes, 268435456u);
  EXPECT_FALSE(set(settings, "ghost-limit", "2X"));
  EXPECT_FALSE(set(settings, "ghost-limit", ""));
  EXPECT_FALSE(set(settings, "ghost-limit", "99999999999G"));

  ASSERT_TRUE(set(settings, "manage-cgroups", "full"));
  EXPECT_EQ(settings.common.cgroup_mode, engine::CgroupMode::kFull);
  ASSERT_TRUE(set(settings, "manage-cgroups"));
  EXPECT_EQ(settings.common.cgroup_mode, engine::CgroupMode::kSoft);
  EXPECT_FALSE(set(settings, "manage-cgroups", "everything"));

  ASSERT_TRUE(set(settings, "timeout", "3"));
  EXPECT_EQ(checkpoint_options(settings).freeze_timeout, std::chrono::seconds(3));
  ASSERT_TRUE(set(settings, "network-lock", "skip"));
  EXPECT_EQ(settings.common.network_lock, engine::NetworkLock::kSkip);
}

TEST(OptionTable, Verbosity) {
  Settings settings;
  ASSERT_TRUE(set(settings, "verbosity"));
  EXPECT_EQ(settings.verbosity, 3);
  ASSERT_TRUE(set(settings, "verbosity", "v"));
  EXPECT_EQ(settings.verbosity, 5);
  ASSERT_TRUE(set(settings, "verbosity", "0"));
  EXPECT_EQ(settings.verbosity, 0);
  settings.verbosity = 2;
  ASSERT_TRUE(set(settings, "verbosity", "erbosity=0"));
  EXPECT_EQ(settings.verbosity, 0);
}

TEST(OptionTable, ExternalMountsOfAllSpellingsEndUpInOnePlace) {
  Settings settings;
  ASSERT_TRUE(set(settings, "external", "mnt[/a]:x"));
  ASSERT_TRUE(set(settings, "external", "mnt[/odd]name]:y"));
  ASSERT_TRUE(set(settings, "ext-mount-map", "/b:z:z"));
  ASSERT_TRUE(set(settings, "external", "net[4026532]:extRootNetNS"));
  ASSERT_THAT(settings.common.external_mounts, SizeIs(3));
  EXPECT_EQ(settings.common.external_mounts[0].key, "/a");
  EXPECT_EQ(settings.common.external_mounts[0].value, "x");
  EXPECT_EQ(settings.common.external_mounts[1].key, "/odd]name");
  EXPECT_EQ(settings.common.external_mounts[2].key, "/b");
  EXPECT_EQ(settings.common.external_mounts[2].value, "z:z");
  EXPECT_THAT(settings.common.externals, ElementsAre("net[4026532]:extRootNetNS"));
  EXPECT_FALSE(set(settings, "external", "nonsense"));
  EXPECT_FALSE(set(settings, "external", "mnt[/a]"));
  EXPECT_FALSE(set(settings, "ext-mount-map", "/a"));
}

TEST(OptionTable, AutomaticExternalMounts) {
  Settings one, two, three;
  ASSERT_TRUE(set(one, "external", "mnt[]"));
  EXPECT_TRUE(checkpoint_options(one).auto_external_mounts);
  EXPECT_FALSE(checkpoint_options(one).external_masters);
  ASSERT_TRUE(set(two, "external", "mnt[]:ms"));
  EXPECT_TRUE(checkpoint_options(two).external_masters);
  EXPECT_TRUE(checkpoint_options(two).external_sharing);
  ASSERT_TRUE(set(three, "ext-mount-map", "auto"));
  EXPECT_TRUE(checkpoint_options(three).auto_external_mounts);
  EXPECT_FALSE(set(three, "external", "mnt[]:q"));
}

TEST(OptionTable, SocketsAndVethsBecomeExternals) {
  Settings settings;
  ASSERT_TRUE(set(settings, "ext-unix-sk"));
  EXPECT_TRUE(settings.common.external_unix_sockets);
  ASSERT_TRUE(set(settings, "ext-unix-sk", "12,34"));
  ASSERT_TRUE(set(settings, "veth-pair", "eth0=veth7"));
  EXPECT_THAT(settings.common.externals, ElementsAre("unix[12]", "unix[34]", "veth[eth0]:veth7"));
  EXPECT_FALSE(set(settings, "ext-unix-sk", "abc"));
  EXPECT_FALSE(set(settings, "veth-pair", "eth0"));
}

TEST(OptionTable, CgroupRoots) {
  Settings settings;
  ASSERT_TRUE(set(settings, "cgroup-root", "/all"));
  ASSERT_TRUE(set(settings, "cgroup-root", "name=systemd:/one"));
  ASSERT_TRUE(set(settings, "cgroup-root", ":/two"));
  const auto& roots = settings.common.cgroup_roots;
  ASSERT_THAT(roots, SizeIs(3));
  EXPECT_TRUE(roots[0].every_controller);
  EXPECT_EQ(roots[0].path, "/all");
  EXPECT_FALSE(roots[1].every_controller);
  EXPECT_EQ(roots[1].controller, "name=systemd");
  EXPECT_EQ(roots[1].path, "/one");
  EXPECT_FALSE(roots[2].every_controller);
  EXPECT_EQ(roots[2].controller, "");
}

TEST(OptionTable, InheritedDescriptorsMustBeOpen) {
  Settings settings;
  ASSERT_TRUE(set(settings, "inherit-fd", "fd[0]:pipe[4711]"));
  EXPECT_EQ(restore_options(settings).inherited[0].fd, 0);
  EXPECT_EQ(restore_options(settings).inherited[0].key, "pipe[4711]");
  const auto closed = set(settings, "inherit-fd", "fd[987]:path/to/file");
  ASSERT_FALSE(closed);
  EXPECT_THAT(closed.error().message(), HasSubstr("fd 987: "));
  EXPECT_FALSE(set(settings, "inherit-fd", "fd[0]"));
  EXPECT_FALSE(set(settings, "inherit-fd", "0:x"));
}

TEST(OptionTable, JoinedNamespaces) {
  Settings settings;
  ASSERT_TRUE(set(settings, "join-ns", "ipc:/run/ns/ipc"));
  ASSERT_TRUE(set(settings, "join-ns", "user:77,0,0"));
  const auto joins = restore_options(settings).join_namespaces;
  EXPECT_EQ(joins[0].path, "/run/ns/ipc");
  EXPECT_EQ(joins[1].path, "/proc/77/ns/user");
  EXPECT_EQ(joins[1].extra, "0,0");
  EXPECT_FALSE(set(settings, "join-ns", "pid:1"));
  EXPECT_FALSE(set(settings, "join-ns", "ipc"));
  EXPECT_FALSE(set(settings, "join-ns", "what:1"));
}

TEST(OptionTable, WhatIsNotBuiltIsRefusedByNameForTheCommandsItMattersTo) {
  Settings settings;
  ASSERT_TRUE(set(settings, "skip-in-flight"));
  EXPECT_EQ(text_of(refusals(settings, kDump)),
            "option --skip-in-flight: skipping TCP connections in flight is not built\n");
  EXPECT_EQ(text_of(refusals(settings, kRestore)), "");
}

TEST(OptionTable, PlacesToSearchForWatchedInodes) {
  Settings settings;
  ASSERT_TRUE(set(settings, "force-irmap"));
  ASSERT_TRUE(set(settings, "irmap-scan-path", "/etc"));
  ASSERT_TRUE(set(settings, "irmap-scan-path", "/var/log"));
  EXPECT_FALSE(set(settings, "irmap-scan-path", "relative"));
  EXPECT_EQ(text_of(refusals(settings, kDump)), "");
  EXPECT_EQ(checkpoint_options(settings).irmap_scan_paths, (std::vector<std::string>{"/etc", "/var/log"}));
}

TEST(OptionTable, IncrementalCheckpoints) {
  Settings settings;
  ASSERT_TRUE(set(settings, "track-mem"));
  ASSERT_TRUE(set(settings, "auto-dedup"));
  ASSERT_TRUE(set(settings, "prev-images-dir", "../1"));
  ASSERT_TRUE(set(settings, "pre-dump-mode", "read"));
  const auto dump = checkpoint_options(settings);
  EXPECT_TRUE(dump.track_memory);
  EXPECT_TRUE(dump.auto_dedup);
  EXPECT_EQ(dump.parent_images, "../1");
  EXPECT_EQ(dump.pre_dump_mode, engine::PreDumpMode::kRead);
  EXPECT_TRUE(restore_options(settings).auto_dedup);
  EXPECT_FALSE(set(settings, "pre-dump-mode", "guess"));
  EXPECT_EQ(text_of(refusals(settings, kDump)), "");
}

TEST(OptionTable, EveryOptionThatIsNotBuiltIsRefusedSomewhere) {
  for (const Option& option : option_table()) {
    if (option.missing.empty()) continue;
    Settings settings;
    const bool takes_value = option.argument == Argument::kRequired;
    ASSERT_TRUE(set(settings, option.name, takes_value ? std::optional("x") : std::nullopt));
    bool refused = false;
    for (unsigned bit = 1; bit <= kSwrk; bit <<= 1)
      refused |= !refusals(settings, static_cast<Command>(bit)).empty();
    EXPECT_TRUE(refused) << option.name;
  }
}

TEST(OptionTable, ALaterSourceCanTakeBackWhatIsNotBuilt) {
  Settings settings;
  ASSERT_TRUE(set(settings, "lazy-pages"));
  ASSERT_TRUE(set(settings, "no-lazy-pages"));
  EXPECT_THAT(refusals(settings, kRestore), IsEmpty());
}

TEST(OptionTable, CpuChecksAddUpAndAreTakenBack) {
  const auto checks = [](std::initializer_list<const char*> values) {
    Settings settings;
    for (const char* value : values)
      if (!set(settings, "cpu-cap", *value ? std::optional<std::string>(value) : std::nullopt)) return std::string("refused");
    const engine::CpuChecks& cpu = settings.common.cpu;
    return format("{}{}{}{}", cpu.record ? "r" : "", cpu.fpu ? "f" : "", cpu.instructions ? "i" : "", cpu.exact ? "c" : "");
  };
  EXPECT_EQ(checks({}), "fi");
  EXPECT_EQ(checks({""}), "rfic");
  EXPECT_EQ(checks({"none"}), "");
  EXPECT_EQ(checks({"^none"}), "rfic");
  EXPECT_EQ(checks({"cpu"}), "rfic");
  EXPECT_EQ(checks({"none,ins"}), "ri");
  EXPECT_EQ(checks({"all,^cpu"}), "rfi");
  EXPECT_EQ(checks({"^fpu", "^^cpu"}), "ric");
  EXPECT_EQ(checks({"avx"}), "refused");
}

TEST(OptionTable, JoinedAndEmptyNetworkContradict) {
  Settings settings;
  ASSERT_TRUE(set(settings, "empty-ns", "net"));
  EXPECT_EQ(settings.common.empty_namespaces, static_cast<std::uint64_t>(CLONE_NEWNET));
  ASSERT_TRUE(set(settings, "join-ns", "net:1"));
  EXPECT_THAT(text_of(refusals(settings, kRestore)), HasSubstr("join-ns and empty-ns"));
  EXPECT_FALSE(set(settings, "empty-ns", "mnt"));
}

TEST(OptionTable, CommonAndOwnMembersMeetInTheEnginesOptions) {
  Settings settings;
  ASSERT_TRUE(set(settings, "tree", "42"));
  ASSERT_TRUE(set(settings, "shell-job"));
  ASSERT_TRUE(set(settings, "restore-sibling"));
  EXPECT_EQ(checkpoint_options(settings).pid, 42);
  EXPECT_TRUE(checkpoint_options(settings).shell_job);
  EXPECT_TRUE(restore_options(settings).shell_job);
  EXPECT_TRUE(restore_options(settings).as_sibling);
}

TEST(OptionTable, HelpNamesWhatIsBuiltAndWhatIsNot) {
  const std::string help = help_text();
  EXPECT_THAT(help, HasSubstr("  -t, --tree PID"));
  EXPECT_THAT(help, HasSubstr("--manage-cgroups[=MODE]"));
  EXPECT_THAT(help, HasSubstr("not built yet: --lazy-pages"));
}

}  // namespace
}  // namespace dormouse::shim
