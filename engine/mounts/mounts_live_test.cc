// Mount namespaces saved and built anew, in private namespaces of the test's own. Takes root.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <map>

#include "base/format.h"
#include "base/text.h"
#include "engine/inmate_for_tests.h"
#include "engine/mounts/mount_plan.h"
#include "engine/mounts/mounts_dump.h"
#include "engine/mounts/mounts_restore.h"
#include "kernel/file.h"
#include "kernel/mount_api.h"
#include "kernel/process.h"

namespace dormouse::engine {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kUsualNamespaces =
    CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET;

// The tree of mounts without its numbers: one line for each mount, peers and file systems counted in order
// of appearance.
std::string shape(const std::string& mountinfo) {
  const MountTable table = MountTable::of(mountinfo).value();
  std::string text;
  std::map<std::uint32_t, std::size_t> groups{{0, 0}};
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::size_t> devices;
  const auto group = [&](std::uint32_t id) { return groups.try_emplace(id, groups.size()).first->second; };
  const std::function<void(const proc::MountInfo&, std::string)> walk = [&](const auto& mount, std::string indent) {
    const auto device =
        devices.try_emplace({mount.device_major, mount.device_minor}, devices.size()).first->second;
    const std::size_t shared = group(mount.shared), master = group(mount.master);
    text += format("{}{} {}:{} {} {} {} {} shared {} master {}{}\n", indent, mount.mount_point, device, mount.root,
                   mount.options, mount.type, mount.source, mount.super_options, shared, master,
                   mount.unbindable ? " unbindable" : "");
    std::vector<const proc::MountInfo*> children;
    for (const auto& other : table.all())
      if (other.parent_id == mount.id && &other != &mount) children.push_back(&other);
    std::ranges::sort(children, {}, &proc::MountInfo::mount_point);
    for (const auto* child : children) walk(*child, indent + "  ");
  };
  if (table.root()) walk(*table.root(), "");
  return text;
}

Result<> expect(bool condition, const char* what) {
  return condition ? Result<>{} : Result<>(fail(Error::unsupported(what)));
}

class MountsLive : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    ::umask(0);
    char name[] = "/tmp/dormouse-mounts-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    top_ = name;
    ASSERT_EQ(::chmod(name, 0755), 0);
    for (const char* path : {"/images", "/root", "/root/proc", "/root/dev", "/root/sys", "/root/a", "/root/a/b",
                             "/root/c", "/root/outside", "/outside", "/outside/sub", "/root/with blank"})
      ASSERT_EQ(::mkdir((top_ + path).c_str(), 0755), 0);
    ASSERT_TRUE(make_file(top_ + "/root/file") && make_file(top_ + "/outside/file"));
    images_ = *sys::openat(AT_FDCWD, top_ + "/images", O_RDONLY | O_DIRECTORY);
    before_ = node();
    dump_.log = restore_.log = &log_;
    restore_.root = top_ + "/root";
  }
  void TearDown() override {
    if (top_.empty()) return;
    EXPECT_EQ(node(), before_) << "the node's own mounts are as they were";
    ::system(("rm -rf " + top_).c_str());
  }
  // The node's mounts under this test's directory; others come and go with other tests.
  std::string node() const {
    std::string own;
    const std::string text = *sys::read_file(AT_FDCWD, "/proc/self/mountinfo");
    for (const auto line : split(text, '\n'))
      if (line.find(top_) != std::string_view::npos) own += std::string(line) + '\n';
    return own;
  }
  static bool make_file(const std::string& path) {
    return Fd(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644)).get() >= 0;
  }

  static Result<> mount(const char* source, const std::string& target, const char* type, unsigned long flags,
                        const char* data = nullptr) {
    return sys::mount(source, target, type, flags, data);
  }
  static Result<> bind(const std::string& from, const std::string& to, unsigned long flags = 0) {
    TRY(mount(from.c_str(), to, nullptr, MS_BIND));
    return flags ? mount(nullptr, to, nullptr, MS_REMOUNT | MS_BIND | flags) : Result<>{};
  }
  // What a runtime does at first and at last.
  Result<> open_root() {
    TRY(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE));
    return bind(top_ + "/root", top_ + "/root");
  }
  Result<> enter_root() {
    if (::chdir((top_ + "/root").c_str())) return fail(Error::kernel("chdir", errno));
    TRY(sys::pivot_root(".", "."));
    TRY(sys::umount2(".", MNT_DETACH));
    return ::chdir("/") ? Result<>(fail(Error::kernel("chdir", errno))) : Result<>{};
  }

  // Messages of all blockers, and the failure if there was one.
  std::vector<std::string> save(const Inmate& inmate) {
    const Tree tree = inmate.tree();
    Blockers blockers;
    auto out = images::OutputDirectory::open(images_.get()).value();
    DumpContext context{.options = dump_, .log = log_, .out = out, .tree = tree, .blockers = blockers};
    const MountTable table = MountTable::of(inmate.read("mountinfo")).value();
    const auto saved = save_mounts(context, tree.root(), table, 7);
    std::vector<std::string> messages;
    if (!saved) messages.push_back(saved.error().message());
    for (const auto& error : std::move(blockers).take()) messages.push_back(error.message());
    return messages;
  }

  // What the engine does before the builder is born, and what the builder does.
  struct Prepared {
    images::InputDirectory in;
    Image image;
    MountPlan plan;
  };
  Result<Prepared> prepare() {
    Prepared prepared{TRY(images::InputDirectory::open(images_.get())), {}, {}};
    auto reader = TRY(prepared.in.reader(images::kMountpoints, 7));
    for (pb::mnt_entry entry; TRY(reader.next(entry));) prepared.image.mounts.push_back(entry);
    const RestoreContext context{.options = restore_, .log = log_, .in = prepared.in, .image = prepared.image};
    prepared.plan = TRY(plan_mounts(context));
    TRY(open_archives(context, prepared.plan));
    return prepared;
  }
  Result<> open(Prepared& prepared) {
    const RestoreContext context{.options = restore_, .log = log_, .in = prepared.in, .image = prepared.image};
    return open_sources(context, prepared.plan);
  }
  Result<> restore(const Prepared& prepared) {
    const RestoreContext context{.options = restore_, .log = log_, .in = prepared.in, .image = prepared.image};
    auto built = TRY(build_mounts(context, prepared.plan));
    for (auto& [index, master] : built.terminals) (void)master.release();  // as long as the inmate lives
    return {};
  }
  // The failure, or "ok".
  std::string restored() {
    auto prepared = prepare();
    if (!prepared) return prepared.error().message();
    return Inmate(namespaces_, [&] { return restore(*prepared); }, id_map_, [&] { return open(*prepared); }).said();
  }

  // Builds with `work`, saves, restores into a new inmate, and compares. `check` runs in the restored one, and
  // in one that was never saved: what it changes must have the same effect in both.
  void round_trip(const std::function<Result<>()>& work,
                  const std::function<Result<>()>& check = [] { return Result<>{}; }) {
    const auto build = [&]() -> Result<> {
      TRY(open_root());
      TRY(work());
      return enter_root();
    };
    {
      const Inmate inmate(namespaces_, build, id_map_);
      ASSERT_EQ(inmate.said(), "ok");
      ASSERT_THAT(save(inmate), ::testing::IsEmpty());
    }
    const Inmate model(namespaces_, [&]() -> Result<> {
      TRY(build());
      return check();
    }, id_map_);
    ASSERT_EQ(model.said(), "ok");
    if (out_of_reach_) {
      ASSERT_EQ(::chmod(top_.c_str(), 0700), 0);
    }
    auto prepared = prepare();
    ASSERT_TRUE(prepared) << prepared.error().message();
    const Inmate again(namespaces_, [&]() -> Result<> {
      TRY(restore(*prepared));
      return check();
    }, id_map_, [&] { return open(*prepared); });
    ASSERT_EQ(again.said(), "ok");
    EXPECT_EQ(shape(again.read("mountinfo")), shape(model.read("mountinfo")));
  }

  std::string at(const std::string& path) const { return top_ + "/root" + path; }

  std::uint64_t namespaces_ = kUsualNamespaces;
  std::string id_map_;
  bool out_of_reach_ = false;  // at restore, the container's root user has no way to the root's path
  std::string top_, before_;
  Fd images_;
  CheckpointOptions dump_;
  RestoreOptions restore_{};
  NullLog log_;
};

TEST_F(MountsLive, BuildsAContainer) {
  dump_.external_mounts = {{"/outside", "data"}};
  restore_.external_mounts = {{"data", top_ + "/outside"}};
  round_trip(
      [&]() -> Result<> {
        TRY(mount("proc", at("/proc"), "proc", 0));
        TRY(mount("tmpfs", at("/dev"), "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
        TRY(sys::mknodat(AT_FDCWD, at("/dev/null"), S_IFCHR | 0666, makedev(1, 3)));
        for (const char* name : {"/dev/pts", "/dev/shm", "/dev/mqueue"}) TRY(sys::mkdirat(AT_FDCWD, at(name), 0755));
        TRY(sys::symlinkat("pts/ptmx", AT_FDCWD, at("/dev/ptmx")));
        TRY(mount("devpts", at("/dev/pts"), "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
        TRY(mount("shm", at("/dev/shm"), "tmpfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, "mode=1777,size=65536k"));
        const Fd count = TRY(sys::openat(AT_FDCWD, at("/dev/shm/count"), O_CREAT | O_WRONLY, 0600));
        TRY(sys::write_all(count.get(), "42\n"));
        TRY(mount("mqueue", at("/dev/mqueue"), "mqueue", MS_NOSUID | MS_NOEXEC | MS_NODEV));
        TRY(mount("sysfs", at("/sys"), "sysfs", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY));
        for (const char* name : {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"})
          TRY(bind(at(name), at(name), MS_RDONLY));
        TRY(mount("tmpfs", at("/proc/acpi"), "tmpfs", MS_RDONLY));
        TRY(bind(at("/dev/null"), at("/proc/keys")));
        TRY(mount("tmpfs", at("/sys/firmware"), "tmpfs", MS_RDONLY));
        TRY(mount("blanks too", at("/with blank"), "tmpfs", 0));
        return bind(top_ + "/outside", at("/outside"), MS_NODEV | MS_NOATIME);
      },
      []() -> Result<> {
        const Fd null = TRY(sys::openat(AT_FDCWD, "/dev/null", O_RDWR));
        const auto masked = TRY(sys::fstatat(AT_FDCWD, "/proc/keys"));
        TRY(expect(masked.st_rdev == makedev(1, 3), "/proc/keys is not masked"));
        const std::string count = TRY(sys::read_file(AT_FDCWD, "/dev/shm/count"));
        TRY(expect(count == "42\n", "content of /dev/shm"));
        const std::string name = TRY(sys::readlinkat(AT_FDCWD, "/proc/self"));
        TRY(expect(name == "1", "/proc of another pid namespace"));
        const auto shm = TRY(sys::fstatat(AT_FDCWD, "/dev/shm"));
        TRY(expect((shm.st_mode & 07777) == 01777, "mode of /dev/shm"));
        return expect(::access("/outside/sub", F_OK) == 0, "/outside");
      });
}

// As a rootless engine or a runtime with user namespaces does it: all owners are shifted.
TEST_F(MountsLive, BuildsInAUserNamespace) {
  namespaces_ |= CLONE_NEWUSER;
  id_map_ = "0 100000 65536\n";
  ASSERT_EQ(::chmod((top_ + "/images").c_str(), 0700), 0) << "out of the container's reach";
  round_trip(
      [&]() -> Result<> {
        TRY(mount("proc", at("/proc"), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC));
        TRY(mount("sysfs", at("/sys"), "sysfs", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY));
        TRY(mount("tmpfs", at("/dev"), "tmpfs", MS_NOSUID, "mode=755,uid=7,gid=8"));
        const Fd file = TRY(sys::openat(AT_FDCWD, at("/dev/file"), O_CREAT | O_WRONLY, 0640));
        TRY(sys::fchownat(AT_FDCWD, at("/dev/file"), 5, 6));
        TRY(sys::mkdirat(AT_FDCWD, at("/dev/pts"), 0755));
        TRY(mount("devpts", at("/dev/pts"), "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,gid=5"));
        return bind(at("/proc/sys"), at("/proc/sys"), MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC);
      },
      []() -> Result<> {
        const auto file = TRY(sys::fstatat(AT_FDCWD, "/dev/file"));
        return expect(file.st_uid == 5 && file.st_gid == 6, "owner");
      });
}

TEST_F(MountsLive, TheRootMayBeWhereTheContainersUserCannotGo) {
  namespaces_ |= CLONE_NEWUSER;
  id_map_ = "0 100000 65536\n";
  out_of_reach_ = true;
  dump_.external_mounts = {{"/outside", "data"}};
  restore_.external_mounts = {{"data", top_ + "/outside"}};
  round_trip([&]() -> Result<> {
    TRY(mount("proc", at("/proc"), "proc", 0));
    return bind(top_ + "/outside", at("/outside"), 0);
  });
}

TEST_F(MountsLive, BuildsInACgroupNamespace) {
  namespaces_ |= CLONE_NEWCGROUP;
  const bool two = !sys::faccessat(AT_FDCWD, "/sys/fs/cgroup/cpu", F_OK);
  round_trip([&]() -> Result<> {
    if (two) return mount("cgroup", at("/a"), "cgroup2", MS_RDONLY);
    TRY(mount("cgroup", at("/a/b"), "cgroup", MS_NOSUID, "cpu"));
    return bind(at("/a/b"), at("/c"), MS_RDONLY);
  });
}

TEST_F(MountsLive, KeepsWhatIsHidden) {
  round_trip(
      [&]() -> Result<> {
        TRY(mount("one", at("/a/b"), "tmpfs", 0, "size=1m"));
        TRY(sys::mkdirat(AT_FDCWD, at("/a/b/one"), 0700));
        TRY(mount("proc", at("/a"), "proc", 0));
        TRY(mount("two", at("/a"), "tmpfs", 0, "size=2m"));
        TRY(sys::mkdirat(AT_FDCWD, at("/a/two"), 0700));
        TRY(mount("three", at("/a"), "tmpfs", MS_NOEXEC, "size=3m"));
        TRY(sys::mkdirat(AT_FDCWD, at("/a/b"), 0700));
        return mount("four", at("/a/b"), "tmpfs", 0, "size=4m");
      },
      []() -> Result<> {
        TRY(sys::umount2("/a/b"));
        TRY(sys::umount2("/a"));
        TRY(expect(::access("/a/two", F_OK) == 0, "content under one cover"));
        TRY(sys::umount2("/a"));
        TRY(sys::umount2("/a"));
        return expect(::access("/a/b/one", F_OK) == 0, "content under three covers");
      });
}

TEST_F(MountsLive, KeepsContentBelowOtherMounts) {
  round_trip(
      [&]() -> Result<> {
        TRY(mount("lower", at("/a"), "tmpfs", 0));
        TRY(sys::mkdirat(AT_FDCWD, at("/a/sub"), 0711));
        const Fd file = TRY(sys::openat(AT_FDCWD, at("/a/sub/covered"), O_CREAT | O_WRONLY, 0600));
        return mount("upper", at("/a/sub"), "tmpfs", 0, "mode=750");
      },
      []() -> Result<> {
        TRY(expect(::access("/a/sub/covered", F_OK) != 0, "the file is not covered"));
        TRY(sys::umount2("/a/sub"));
        TRY(expect(::access("/a/sub/covered", F_OK) == 0, "the file is not there"));
        const auto stat = TRY(sys::fstatat(AT_FDCWD, "/a/sub"));
        return expect((stat.st_mode & 0777) == 0711, "its directory's mode");
      });
}

TEST_F(MountsLive, MakesTerminalsThatAreMounted) {
  std::vector<Fd> masters;  // inherited by the inmates, never used by the test itself
  round_trip(
      [&]() -> Result<> {
        TRY(mount("devpts", at("/dev"), "devpts", 0, "newinstance,ptmxmode=0666"));
        for (int i = 0; i < 3; ++i)
          masters.push_back(TRY(sys::openat(AT_FDCWD, at("/dev/ptmx"), O_RDWR | O_NOCTTY)));
        return bind(at("/dev/2"), at("/file"));
      },
      []() -> Result<> {
        const auto terminal = TRY(sys::fstatat(AT_FDCWD, "/dev/2"));
        const auto bound = TRY(sys::fstatat(AT_FDCWD, "/file"));
        return expect(terminal.st_rdev == bound.st_rdev && terminal.st_ino == bound.st_ino, "another terminal");
      });
}

TEST_F(MountsLive, KeepsPropagation) {
  round_trip(
      [&]() -> Result<> {
        TRY(mount("one", at("/a"), "tmpfs", 0));
        for (const char* name : {"/a/x", "/a/y", "/a/z", "/a/m", "/a/m/n", "/a/m/late"}) TRY(sys::mkdirat(AT_FDCWD, at(name), 0755));
        TRY(mount(nullptr, at("/a"), nullptr, MS_PRIVATE));
        TRY(bind(at("/a/m"), at("/c")));
        TRY(mount(nullptr, at("/c"), nullptr, MS_SHARED));
        TRY(bind(at("/c"), at("/a/x")));  // a peer
        TRY(bind(at("/c"), at("/a/y")));
        TRY(mount(nullptr, at("/a/y"), nullptr, MS_SLAVE));  // follows
        TRY(bind(at("/c"), at("/a/z")));
        TRY(mount(nullptr, at("/a/z"), nullptr, MS_SLAVE));
        TRY(mount(nullptr, at("/a/z"), nullptr, MS_SHARED));  // follows and shares
        TRY(mount("sub", at("/c/n"), "tmpfs", 0));            // appears in four places
        TRY(mount("alone", at("/outside"), "tmpfs", 0));
        return mount(nullptr, at("/outside"), nullptr, MS_UNBINDABLE);
      },
      []() -> Result<> {
        return mount("late", "/a/x/late", "tmpfs", 0);
      });
}

TEST_F(MountsLive, KeepsFollowingTheNode) {
  dump_.external_mounts = {{"/outside", "data"}};
  restore_.external_mounts = {{"data", top_ + "/outside"}};
  // Both inmates live in a copy of a namespace in which the outside is shared: the test's own node must not change.
  const auto share_outside = [&]() -> Result<> {
    TRY(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE));
    TRY(bind(top_ + "/outside", top_ + "/outside"));
    TRY(mount(nullptr, top_ + "/outside", nullptr, MS_SHARED));
    // The other peer, which is to be followed, lives as long as its namespace.
    Fd node = TRY(sys::openat(AT_FDCWD, "/proc/self/ns/mnt", O_RDONLY));
    (void)node.release();
    return sys::unshare(CLONE_NEWNS);
  };
  std::string expected;
  {
    const Inmate inmate(namespaces_, [&]() -> Result<> {
      TRY(share_outside());
      TRY(mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE));
      TRY(bind(top_ + "/root", top_ + "/root"));
      TRY(bind(top_ + "/outside", at("/outside")));
      TRY(mount("proc", at("/proc"), "proc", 0));
      return enter_root();
    });
    ASSERT_EQ(inmate.said(), "ok");
    expected = shape(inmate.read("mountinfo"));
    ASSERT_THAT(expected, HasSubstr("master 1"));
    ASSERT_THAT(save(inmate), ::testing::IsEmpty());
  }
  auto prepared = prepare();
  ASSERT_TRUE(prepared);
  const Inmate again(namespaces_, [&]() -> Result<> {
    TRY(share_outside());
    TRY(open(*prepared));
    return restore(*prepared);
  });
  ASSERT_EQ(again.said(), "ok");
  EXPECT_EQ(shape(again.read("mountinfo")), expected);
}

TEST_F(MountsLive, NamesAMissingMountPoint) {
  const Inmate inmate(namespaces_, [&]() -> Result<> {
    TRY(open_root());
    TRY(mount("proc", at("/proc"), "proc", 0));
    return enter_root();
  });
  ASSERT_EQ(inmate.said(), "ok");
  ASSERT_THAT(save(inmate), ::testing::IsEmpty());
  ASSERT_EQ(::rmdir(at("/proc").c_str()), 0);
  EXPECT_THAT(restored(), HasSubstr("mount /proc (id"));
  // A link in its place must not lead anywhere.
  ASSERT_EQ(::symlink(top_.c_str(), at("/proc").c_str()), 0);
  EXPECT_THAT(restored(), HasSubstr("mount /proc (id"));
  ASSERT_EQ(::symlink("/tmp", at("/link").c_str()), 0);
}

TEST_F(MountsLive, LeavesNothingBehindWhenContentIsMissing) {
  const Inmate inmate(namespaces_, [&]() -> Result<> {
    TRY(open_root());
    TRY(mount("t", at("/c"), "tmpfs", 0));
    return enter_root();
  });
  ASSERT_THAT(save(inmate), ::testing::IsEmpty());
  ASSERT_EQ(::system(("rm " + top_ + "/images/tmpfs-dev-*").c_str()), 0);
  EXPECT_THAT(restored(),
              AllOf(HasSubstr("tmpfs-dev-"), HasSubstr("of mount /c (id")));
}

}  // namespace
}  // namespace dormouse::engine
