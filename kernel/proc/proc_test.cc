// The parsers, fed with literals as the kernel prints them, and one pass over this very process.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>

#include "kernel/file.h"
#include "kernel/proc/directory.h"
#include "kernel/proc/scan.h"
#include "kernel/proc/smaps.h"

namespace dormouse::proc {
namespace {

TEST(Maps, FieldsOfEveryKindOfLine) {
  const auto maps = parse_maps(
      "55d0c5e00000-55d0c5e02000 r--p 00000000 fe:00 247498                     /usr/bin/head\n"
      "55d0c5e02000-55d0c5e08000 rwxs 00002000 103:1f 18446744073709551615 /a b\\012c\\x (deleted)\n"
      "7f0000000000-7f0000001000 ---p 00000000 00:00 0 \n"
      "7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]\n"
      "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n");
  ASSERT_TRUE(maps);
  ASSERT_EQ(maps->size(), 5u);
  const Vma& first = maps->at(0);
  EXPECT_EQ(first.start, 0x55d0c5e00000u);
  EXPECT_EQ(first.size_bytes(), 0x2000u);
  EXPECT_TRUE(first.readable && !first.writable && !first.executable && !first.shared);
  EXPECT_EQ(first.inode, 247498u);
  EXPECT_EQ(first.name, "/usr/bin/head");
  const Vma& second = maps->at(1);
  EXPECT_TRUE(second.writable && second.executable && second.shared);
  EXPECT_EQ(second.offset, 0x2000u);
  EXPECT_EQ(second.device_major, 0x103u);
  EXPECT_EQ(second.device_minor, 0x1fu);
  EXPECT_EQ(second.inode, ~std::uint64_t{0});
  EXPECT_EQ(second.name, "/a b\nc\\x (deleted)");
  EXPECT_EQ(maps->at(2).name, "");
  EXPECT_EQ(maps->at(3).name, "[stack]");
  EXPECT_EQ(maps->at(4).end, 0xffffffffff601000u);
}

TEST(Maps, RefusesNonsense) {
  EXPECT_FALSE(parse_maps("hello\n"));
  EXPECT_FALSE(parse_maps("2000-1000 r--p 00000000 fe:00 1 /x\n"));
  EXPECT_FALSE(parse_maps("1000-2000 r--z 00000000 fe:00 1 /x\n"));
  EXPECT_TRUE(parse_maps("").value().empty());
}

TEST(Maps, TenThousandLinesInMilliseconds) {
  std::string text;
  for (std::uint64_t i = 0; i < 10'000; ++i)
    text += format("{:x}-{:x} rw-p 00000000 fe:00 247498                     /usr/lib/lib{}.so\n",
                   0x7f0000000000 + i * 0x2000, 0x7f0000001000 + i * 0x2000, i);
  const auto begin = std::chrono::steady_clock::now();
  const auto maps = parse_maps(text);
  const auto took = std::chrono::steady_clock::now() - begin;
  ASSERT_TRUE(maps);
  EXPECT_EQ(maps->size(), 10'000u);
  // 1.1 ms when measured alone; the slack is for sanitizers and busy machines.
  EXPECT_LT(took, std::chrono::milliseconds(200));
}

TEST(Smaps, PiecesMayEndAnywhere) {
  const std::string text = "1000-2000 rw-p 00000000 00:00 0    [heap]\nRss:     8 kB\nVmFlags: rd lf \n"
                           "2000-3000 r--s 00000000 00:00 0 \nSwap:    5 kB\nVmFlags: rd sh";
  for (std::size_t size = 1; size <= text.size(); ++size) {
    SmapsParser parser;
    for (std::size_t at = 0; at < text.size(); at += size) ASSERT_TRUE(parser.add(std::string_view(text).substr(at, size)));
    const auto maps = parser.finish();
    ASSERT_TRUE(maps) << size;
    ASSERT_EQ(maps->size(), 2u) << size;
    EXPECT_EQ(maps->at(0).name, "[heap]") << size;
    EXPECT_EQ(maps->at(0).rss_kb, 8u) << size;
    EXPECT_TRUE(maps->at(0).flags.has(VmFlag::kLockOnFault)) << size;
    EXPECT_EQ(maps->at(1).swap_kb, 5u) << size;
    EXPECT_TRUE(maps->at(1).flags.has(VmFlag::kShared)) << size;
  }
}

TEST(Smaps, LongOnesAreReadToTheEndAndWrongLinesRefused) {
  std::string text;
  constexpr std::size_t kMappings = 20'000;  // more than is parsed while it is read
  for (std::size_t i = 1; i <= kMappings; ++i)
    text += std::to_string(i) + "000-" + std::to_string(i) + "800 rw-p 00000000 00:00 0 \nRss:   4 kB\nVmFlags: rd wr \n";
  const Fd file = sys::memfd_create("smaps").value();
  ASSERT_TRUE(sys::pwrite_all(file.get(), std::as_bytes(std::span(text)), 0));
  std::vector<std::string> steps;
  std::size_t told = 0;
  std::uint64_t last = 0;
  bool in_order = true;
  const auto maps = read_smaps(file.get(), {.meanwhile = [&] { steps.push_back("meanwhile"); },
                                            .each = [&](const Vma& vma) {
                                              ++told;
                                              in_order = in_order && vma.start > std::exchange(last, vma.start) && vma.rss_kb == 4;
                                            },
                                            .idle = [&] { return steps.push_back("idle"), false; }});
  ASSERT_TRUE(maps) << maps.error().message();
  EXPECT_EQ(maps->size(), kMappings);
  EXPECT_TRUE(in_order);
  EXPECT_EQ(told, kMappings);
  ASSERT_FALSE(steps.empty());
  EXPECT_EQ(steps.front(), "meanwhile");
  EXPECT_EQ(std::ranges::count(steps, "meanwhile"), 1);
  EXPECT_TRUE(std::ranges::all_of(*maps, [](const Vma& vma) { return vma.rss_kb == 4; }));

  text += "nonsense\n";
  ASSERT_TRUE(sys::pwrite_all(file.get(), std::as_bytes(std::span(text)), 0));
  ASSERT_TRUE(sys::lseek(file.get(), 0, SEEK_SET));
  EXPECT_FALSE(read_smaps(file.get()));
}

TEST(Smaps, FieldsBelongToTheMappingAbove) {
  const auto maps = parse_smaps(
      "1000-2000 rw-p 00000000 00:00 0 \n"
      "Size:                  4 kB\n"
      "KernelPageSize:     2048 kB\n"
      "Rss:                   8 kB\n"
      "Shared_Dirty:          1 kB\n"
      "Private_Dirty:         2 kB\n"
      "Anonymous:             3 kB\n"
      "AnonHugePages:      2048 kB\n"
      "Shared_Hugetlb:       10 kB\n"
      "Private_Hugetlb:      20 kB\n"
      "Swap:                  5 kB\n"
      "SwapPss:               6 kB\n"
      "THPeligible:           0\n"
      "ProtectionKey:         0\n"
      "VmFlags: rd wr mr mw me gd dc zz \n"
      "2000-3000 r--s 00000000 00:00 0 \n"
      "VmFlags: rd sh lo lf \n");
  ASSERT_TRUE(maps);
  ASSERT_EQ(maps->size(), 2u);
  const Vma& vma = maps->at(0);
  EXPECT_EQ(vma.kernel_page_kb, 2048u);
  EXPECT_EQ(vma.rss_kb, 8u);
  EXPECT_EQ(vma.shared_dirty_kb, 1u);
  EXPECT_EQ(vma.private_dirty_kb, 2u);
  EXPECT_EQ(vma.anonymous_kb, 3u);
  EXPECT_EQ(vma.anon_huge_kb, 2048u);
  EXPECT_EQ(vma.hugetlb_kb, 30u);
  EXPECT_EQ(vma.swap_kb, 5u);
  EXPECT_TRUE(vma.flags.has(VmFlag::kGrowsDown));
  EXPECT_TRUE(vma.flags.has(VmFlag::kDontCopy));
  EXPECT_TRUE(vma.flags.has(VmFlag::kOther));
  EXPECT_FALSE(vma.flags.has(VmFlag::kShared));
  EXPECT_TRUE(maps->at(1).flags.has(VmFlag::kLockOnFault));
  EXPECT_FALSE(maps->at(1).flags.has(VmFlag::kOther));
}

constexpr std::string_view kStatus =
    "Name:\t a\\nb\\\\\nUmask:\t0027\nState:\tT (stopped)\nTgid:\t10\nNgid:\t0\nPid:\t11\nPPid:\t1\n"
    "TracerPid:\t7\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nFDSize:\t64\nGroups:\t20 30 40 \n"
    "NStgid:\t10\t1\nNSpid:\t11\t2\nNSpgid:\t10\t0\nNSsid:\t9\t0\nKthread:\t0\n"
    "VmSize:\t    3060 kB\nVmLck:\t       8 kB\nVmRSS:\t    1776 kB\nCoreDumping:\t0\n"
    "THP_enabled:\t0\nThreads:\t3\nSigQ:\t2/96365\nSigPnd:\t0000000000000001\n"
    "ShdPnd:\t0000000000000002\nSigBlk:\t8000000000000000\nSigIgn:\t0000000000000004\n"
    "SigCgt:\t0000000180000000\nCapInh:\t0000000000000001\nCapPrm:\t000001fffeffffff\n"
    "CapEff:\t0000000000000002\nCapBnd:\t0000000000000003\nCapAmb:\t0000000000000004\n"
    "NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t5\nCpus_allowed_list:\t0-1\n";

TEST(Status, EveryField) {
  const auto status = parse_status(kStatus);
  ASSERT_TRUE(status);
  EXPECT_EQ(status->name, " a\nb\\");
  EXPECT_EQ(status->umask, 027u);
  EXPECT_EQ(status->state, 'T');
  EXPECT_EQ(status->tgid, 10);
  EXPECT_EQ(status->pid, 11);
  EXPECT_EQ(status->ppid, 1);
  EXPECT_EQ(status->tracer_pid, 7);
  EXPECT_EQ(status->uid, (FourIds{1, 2, 3, 4}));
  EXPECT_EQ(status->gid, (FourIds{5, 6, 7, 8}));
  EXPECT_EQ(status->groups, (std::vector<std::uint32_t>{20, 30, 40}));
  EXPECT_EQ(status->ns_pid, (std::vector<pid_t>{11, 2}));
  EXPECT_EQ(status->ns_tgid, (std::vector<pid_t>{10, 1}));
  EXPECT_EQ(status->ns_pgid, (std::vector<pid_t>{10, 0}));
  EXPECT_EQ(status->ns_sid, (std::vector<pid_t>{9, 0}));
  EXPECT_EQ(status->threads, 3u);
  EXPECT_EQ(status->queued_signals, 2u);
  EXPECT_EQ(status->queued_signals_limit, 96365u);
  EXPECT_EQ(status->pending, 1u);
  EXPECT_EQ(status->shared_pending, 2u);
  EXPECT_EQ(status->blocked, std::uint64_t{1} << 63);
  EXPECT_EQ(status->ignored, 4u);
  EXPECT_EQ(status->caught, 0x180000000u);
  EXPECT_EQ(status->cap_inheritable, 1u);
  EXPECT_EQ(status->cap_permitted, 0x1fffeffffffu);
  EXPECT_EQ(status->cap_effective, 2u);
  EXPECT_EQ(status->cap_bounding, 3u);
  EXPECT_EQ(status->cap_ambient, 4u);
  EXPECT_TRUE(status->no_new_privs);
  EXPECT_EQ(status->seccomp, 2u);
  EXPECT_EQ(status->seccomp_filters, 5u);
  EXPECT_FALSE(status->thp_enabled);
  EXPECT_EQ(status->vm_size_kb, 3060u);
  EXPECT_EQ(status->vm_rss_kb, 1776u);
  EXPECT_EQ(status->vm_locked_kb, 8u);
}

TEST(Status, NoGroupsIsAnEmptyList) {
  EXPECT_TRUE(parse_status("Pid:\t1\nGroups:\t \n").value().groups.empty());
  EXPECT_FALSE(parse_status("Pid:\tx\n"));
  EXPECT_FALSE(parse_status(""));
}

TEST(Stat, NameMayHoldBlanksAndParentheses) {
  const auto stat = parse_stat(
      "23475 (a) R (b) S 100 101 102 34816 103 4194304 99 0 0 0 5 6 0 0 20 -5 2 0 156675 3133440 394 "
      "18446744073709551615 1001 1002 1003 0 0 0 0 0 0 0 0 0 17 1 3 1 0 0 0 2001 2002 2003 3001 3002 "
      "3003 3004 256\n");
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->pid, 23475);
  EXPECT_EQ(stat->comm, "a) R (b");
  EXPECT_EQ(stat->state, 'S');
  EXPECT_EQ(stat->ppid, 100);
  EXPECT_EQ(stat->pgrp, 101);
  EXPECT_EQ(stat->session, 102);
  EXPECT_EQ(stat->tty_device, 34816u);
  EXPECT_EQ(stat->tty_pgrp, 103);
  EXPECT_EQ(stat->user_ticks, 5u);
  EXPECT_EQ(stat->nice, -5);
  EXPECT_EQ(stat->num_threads, 2u);
  EXPECT_EQ(stat->start_time_ticks, 156675u);
  EXPECT_EQ(stat->start_code, 1001u);
  EXPECT_EQ(stat->end_code, 1002u);
  EXPECT_EQ(stat->start_stack, 1003u);
  EXPECT_EQ(stat->exit_signal, 17);
  EXPECT_EQ(stat->rt_priority, 3u);
  EXPECT_EQ(stat->policy, 1u);
  EXPECT_EQ(stat->start_data, 2001u);
  EXPECT_EQ(stat->end_data, 2002u);
  EXPECT_EQ(stat->start_brk, 2003u);
  EXPECT_EQ(stat->arg_start, 3001u);
  EXPECT_EQ(stat->env_end, 3004u);
  EXPECT_EQ(stat->exit_code, 256);
  EXPECT_FALSE(parse_stat("1 (x) S 1 2"));
  EXPECT_FALSE(parse_stat(""));
}

TEST(Mountinfo, OptionalFieldsAndEscapes) {
  const auto mounts = parse_mountinfo(
      "36 35 98:0 /mnt1 /mnt\\0402\\134x rw,noatime shared:3 master:1 propagate_from:9 unbindable - "
      "ext3 /dev/root rw,errors=continue\n"
      "37 36 0:31 / / rw - tmpfs  rw\n"
      "38 36 0:32 /../.. /x ro,relatime new:7 - fuse.a\\040b none ro,lowerdir=/a\\054b\n");
  ASSERT_TRUE(mounts);
  ASSERT_EQ(mounts->size(), 3u);
  const MountInfo expected{36,    35, 98, 0, "/mnt1", "/mnt 2\\x",         "rw,noatime", 3,
                           1,     9,  true,  "ext3",  "/dev/root",         "rw,errors=continue"};
  EXPECT_EQ(mounts->at(0), expected);
  EXPECT_EQ(mounts->at(1).source, "");
  EXPECT_EQ(mounts->at(1).super_options, "rw");
  EXPECT_EQ(mounts->at(1).shared, 0u);
  EXPECT_EQ(mounts->at(2).type, "fuse.a b");
  EXPECT_EQ(mounts->at(2).super_options, "ro,lowerdir=/a\\054b");
  EXPECT_FALSE(parse_mountinfo("36 35 98:0 /mnt1 /mnt rw shared:3\n"));
  EXPECT_TRUE(has_option("rw,cpu,cpuacct", "cpuacct"));
  EXPECT_FALSE(has_option("rw,cpuacct", "cpu"));
}

TEST(Fdinfo, GenericLinesThenTheKindsOwn) {
  const auto info = parse_fdinfo(
      "pos:\t42\nflags:\t02004002\nmnt_id:\t15\nino:\t1057\neventfd-count:                3\n"
      "flags:\t7\n");
  ASSERT_TRUE(info);
  EXPECT_EQ(info->position, 42u);
  EXPECT_EQ(info->flags, 02004002u);
  EXPECT_EQ(info->mount_id, 15u);
  EXPECT_EQ(info->inode, 1057u);
  EXPECT_EQ(info->rest.size(), 2u);
  EXPECT_EQ(info->value("eventfd-count"), "3");
  EXPECT_EQ(info->value("eventfd"), std::nullopt);
  EXPECT_EQ(parse_fdinfo("pos:\t-8\nflags:\t0\n").value().position, ~std::uint64_t{7});
  EXPECT_FALSE(parse_fdinfo("pos:\t0\n"));
}

TEST(Cgroup, BothVersions) {
  const auto lines = parse_cgroup("9:name=systemd:/user:a\n4:cpu,cpuacct:/x\n0::/\n");
  ASSERT_TRUE(lines);
  EXPECT_EQ(*lines, (std::vector<CgroupMembership>{
                        {9, "name=systemd", "/user:a"}, {4, "cpu,cpuacct", "/x"}, {0, "", "/"}}));
  EXPECT_FALSE(parse_cgroup("x:cpu:/\n"));
}

TEST(IdMap, Ranges) {
  EXPECT_EQ(parse_id_map("         0          0 4294967295\n      1000     100000      65536\n").value(),
            (std::vector<IdRange>{{0, 0, 4294967295u}, {1000, 100000, 65536}}));
  EXPECT_FALSE(parse_id_map("0 0\n"));
}

TEST(TimensOffsets, NegativeSeconds) {
  const auto offsets = parse_timens_offsets("monotonic         -5 999\nboottime   77         0\n");
  ASSERT_TRUE(offsets);
  EXPECT_EQ(offsets->monotonic, (TimeOffset{-5, 999}));
  EXPECT_EQ(offsets->boottime, (TimeOffset{77, 0}));
  EXPECT_FALSE(parse_timens_offsets("martian 1 2\n"));
}

TEST(Auxv, EndsAtNull) {
  const std::uint64_t words[] = {6, 4096, 33, 7, 0, 0, 9, 9};
  EXPECT_EQ(parse_auxv({reinterpret_cast<const char*>(words), sizeof words}),
            (std::vector<std::uint64_t>{6, 4096, 33, 7}));
}

TEST(Unescape, OnlyFullEscapes) {
  EXPECT_EQ(unescape_octal("a\\040b\\1340\\04"), "a b\\0\\04");
}

TEST(ProcDir, ReadsThisProcess) {
  const auto self = ProcDir::self();
  ASSERT_TRUE(self);
  EXPECT_EQ(self->status().value().pid, ::getpid());
  EXPECT_EQ(self->stat().value().ppid, ::getppid());
  EXPECT_EQ(self->threads().value().front(), ::getpid());
  const auto maps = self->maps();
  ASSERT_TRUE(maps);
  EXPECT_TRUE(std::ranges::any_of(*maps, [](const Vma& v) { return v.name == "[stack]"; }));
  const auto smaps = self->smaps();
  ASSERT_TRUE(smaps);
  EXPECT_TRUE(std::ranges::any_of(*smaps, [](const Vma& v) { return v.rss_kb > 0; }));
  EXPECT_FALSE(self->mountinfo().value().empty());
  const auto fds = self->descriptors().value();
  EXPECT_TRUE(std::ranges::find(fds, self->fd()) != fds.end());
  EXPECT_TRUE(self->fdinfo(self->fd()).value().flags & O_DIRECTORY);
  ::rlimit files{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
  EXPECT_EQ(self->limits().value()[RLIMIT_NOFILE], (Limit{files.rlim_cur, files.rlim_max}));
  EXPECT_GE(self->auxv().value().size(), 10u);
  EXPECT_FALSE(self->uid_map().value().empty());
  EXPECT_TRUE(self->children());
  EXPECT_TRUE(self->thread(::getpid()).value().status());
}

TEST(ProcDir, ADeadProcessIsTold) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  const auto dir = ProcDir::open(child);
  ASSERT_TRUE(dir);
  ASSERT_TRUE(dir->status());
  EXPECT_EQ(dir->read("no-such-file").error().kind(), Error::Kind::kKernel);
  ::kill(child, SIGKILL);
  siginfo_t info;
  ::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED);
  EXPECT_EQ(dir->status().error().kind(), Error::Kind::kTaskDied);
  EXPECT_EQ(dir->threads().error().kind(), Error::Kind::kTaskDied);
  EXPECT_EQ(dir->descriptors().error().kind(), Error::Kind::kTaskDied);
  EXPECT_EQ(ProcDir::open(child).error().kind(), Error::Kind::kTaskDied);
}

}  // namespace
}  // namespace dormouse::proc
