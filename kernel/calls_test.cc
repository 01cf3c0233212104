// The wrappers: what they add to the system calls (ownership, loops, errors that name the path).
#include <dirent.h>
#include <elf.h>
#include <gtest/gtest.h>
#include <linux/openat2.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "kernel/file.h"
#include "kernel/process.h"
#include "kernel/ptrace.h"
#include "kernel/socket.h"

namespace dormouse::sys {
namespace {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = testing::TempDir() + "/dormouse-calls-XXXXXX";
    path_ = ::mkdtemp(name.data());
    fd_ = sys::openat(AT_FDCWD, path_, O_RDONLY | O_DIRECTORY).value();
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  int fd() const { return fd_.get(); }

 private:
  std::string path_;
  Fd fd_;
};

TEST(File, ErrorsNameCallAndPath) {
  const auto refused = sys::openat(AT_FDCWD, "/no/such/file", O_RDONLY);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(),
            "openat '/no/such/file': No such file or directory (ENOENT)");
}

TEST(File, EveryNewDescriptorIsCloexec) {
  TemporaryDirectory dir;
  const auto cloexec = [](const Fd& fd) { return sys::fcntl(fd.get(), F_GETFD).value() & FD_CLOEXEC; };
  const auto file = sys::openat(dir.fd(), "a", O_RDWR | O_CREAT, 0600).value();
  EXPECT_TRUE(cloexec(file));
  EXPECT_TRUE(cloexec(sys::duplicate(file.get()).value()));
  EXPECT_GE(sys::duplicate(file.get(), 100).value().get(), 100);
  EXPECT_TRUE(cloexec(sys::memfd_create("x").value()));
  const auto pipe = sys::pipe2().value();
  EXPECT_TRUE(cloexec(pipe.read_end) && cloexec(pipe.write_end));
  const auto pair = sys::socketpair(AF_UNIX, SOCK_STREAM).value();
  EXPECT_TRUE(cloexec(pair.one) && cloexec(pair.other));
}

TEST(File, WholeFilesAndListing) {
  TemporaryDirectory dir;
  const std::string text(100'000, 'x');
  {
    const auto file = sys::openat(dir.fd(), "big", O_RDWR | O_CREAT, 0600).value();
    ASSERT_TRUE(sys::write_all(file.get(), text));
    std::array<std::byte, 4> four;
    EXPECT_TRUE(sys::pread_exactly(file.get(), four, text.size() - 4));
    const auto beyond = sys::pread_exactly(file.get(), four, text.size() - 3);
    EXPECT_TRUE(!beyond && beyond.error().is_kernel(ENODATA));
  }
  EXPECT_EQ(sys::read_file(dir.fd(), "big").value(), text);
  ASSERT_TRUE(sys::mkdirat(dir.fd(), "sub", 0700));
  const std::string target(700, 't');
  ASSERT_TRUE(sys::symlinkat(target, dir.fd(), "link"));
  EXPECT_EQ(sys::readlinkat(dir.fd(), "link").value(), target);
  auto entries = sys::list_directory(dir.fd(), ".").value();
  std::ranges::sort(entries, {}, &DirectoryEntry::name);
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].name, "big");
  EXPECT_EQ(entries[1].type, DT_LNK);
  EXPECT_EQ(entries[2].type, DT_DIR);
  ASSERT_TRUE(sys::renameat(dir.fd(), "big", dir.fd(), "small"));
  EXPECT_TRUE(sys::unlinkat(dir.fd(), "small"));
  EXPECT_TRUE(sys::unlinkat(dir.fd(), "sub", AT_REMOVEDIR));
}

TEST(File, Openat2StaysInside) {
  TemporaryDirectory dir;
  ASSERT_TRUE(sys::symlinkat("/etc", dir.fd(), "out"));
  const auto refused = sys::openat2(dir.fd(), "out/passwd", O_RDONLY, RESOLVE_IN_ROOT);
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is_kernel(ENOENT));
  const auto beneath = sys::openat2(dir.fd(), "out", O_RDONLY, RESOLVE_BENEATH);
  EXPECT_TRUE(!beneath && beneath.error().is_kernel(EXDEV));
}

TEST(File, MappingUnmapsOnce) {
  auto one = Mapping::map(-1, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS).value();
  std::byte* const at = one.data();
  Mapping other = std::move(one);
  EXPECT_FALSE(one);
  EXPECT_EQ(other.data(), at);
  other.reset();
  unsigned char vector;
  EXPECT_EQ(::mincore(at, 4096, &vector), -1);  // nothing is mapped there any more
}

TEST(Socket, DescriptorsTravel) {
  const auto pair = sys::socketpair(AF_UNIX, SOCK_SEQPACKET).value();
  const auto pipe = sys::pipe2().value();
  const std::array numbers = {pipe.read_end.get(), pipe.write_end.get()};
  const std::array<std::byte, 3> bytes{std::byte{1}, std::byte{2}, std::byte{3}};
  ASSERT_TRUE(send_with_fds(pair.one.get(), bytes, numbers));
  EXPECT_EQ(next_message_size(pair.other.get()).value(), 3u);
  const auto message = recv_with_fds(pair.other.get(), 100).value();
  EXPECT_TRUE(std::ranges::equal(message.bytes, bytes));
  ASSERT_EQ(message.fds.size(), 2u);
  ASSERT_TRUE(sys::write_all(message.fds[1].get(), "hello"));
  std::array<std::byte, 5> hello;
  EXPECT_TRUE(sys::read_exactly(pipe.read_end.get(), hello));
  EXPECT_TRUE(sys::fcntl(message.fds[0].get(), F_GETFD).value() & FD_CLOEXEC);
}

TEST(Socket, TooLongIsToldAndLeaksNothing) {
  const auto pair = sys::socketpair(AF_UNIX, SOCK_SEQPACKET).value();
  const std::array<std::byte, 8> bytes{};
  const std::array numbers = {0, 0};
  ASSERT_TRUE(send_with_fds(pair.one.get(), bytes, numbers));
  const int before = sys::duplicate(0).value().get();
  const auto shorter = recv_with_fds(pair.other.get(), 4);
  EXPECT_TRUE(!shorter && shorter.error().is_kernel(EMSGSIZE));
  EXPECT_EQ(sys::duplicate(0).value().get(), before);
  ASSERT_TRUE(send_with_fds(pair.one.get(), bytes, numbers));
  EXPECT_FALSE(recv_with_fds(pair.other.get(), 8, 1));
  EXPECT_EQ(sys::duplicate(0).value().get(), before);
}

TEST(Socket, ClosedPeer) {
  auto pair = sys::socketpair(AF_UNIX, SOCK_SEQPACKET).value();
  pair.one.reset();
  EXPECT_EQ(next_message_size(pair.other.get()).value(), 0u);
  EXPECT_TRUE(recv_with_fds(pair.other.get(), 4).value().bytes.empty());
  const std::array<std::byte, 1> byte{};
  const auto refused = send_with_fds(pair.other.get(), byte, {});
  EXPECT_TRUE(!refused && refused.error().is_kernel(EPIPE));  // and no SIGPIPE
}

TEST(Socket, PeerIsWhoMadeThePair) {
  const auto pair = sys::socketpair(AF_UNIX, SOCK_SEQPACKET).value();
  EXPECT_EQ(peer_credentials(pair.one.get()).value().pid, ::getpid());
}

// A child that waits for ever, killed with the test.
class Child {
 public:
  Child() {
    pid_ = sys::clone3({}).value();
    if (pid_ == 0)
      for (;;) ::syscall(SYS_pause);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    (void)sys::kill(pid_, SIGKILL);
    (void)sys::waitid(P_PID, static_cast<id_t>(pid_), WEXITED | __WALL);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

TEST(Process, OnlyMemoryOfTheDyingIsReleased) {
  const Child child;
  const auto pidfd = sys::pidfd_open(child.pid()).value();
  const auto refused = sys::process_mrelease(pidfd.get());
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is_kernel(EINVAL));
  ASSERT_TRUE(sys::kill(child.pid(), SIGKILL));
  const auto released = sys::process_mrelease(pidfd.get());
  EXPECT_TRUE(released || released.error().is_kernel(ESRCH)) << released.error().message();
}

TEST(Process, PidfdSignalAndWait) {
  const Child child;
  const auto pidfd = sys::pidfd_open(child.pid()).value();
  EXPECT_FALSE(sys::waitid(P_PID, static_cast<id_t>(child.pid()), WEXITED | WNOHANG | __WALL).value());
  ASSERT_TRUE(sys::pidfd_send_signal(pidfd.get(), SIGTERM));
  const auto outcome =
      sys::waitid(P_PID, static_cast<id_t>(child.pid()), WEXITED | WNOWAIT | __WALL).value();
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->pid, child.pid());
  EXPECT_EQ(outcome->code, CLD_KILLED);
  EXPECT_EQ(outcome->status, SIGTERM);
}

TEST(Process, MemoryOfAnother) {
  static std::array<std::byte, 10'000> data;
  data.fill(std::byte{7});
  const Child child;
  std::array<std::byte, 10'000> copy{};
  const auto address = reinterpret_cast<std::uint64_t>(data.data());
  ASSERT_TRUE(sys::process_vm_read(child.pid(), address, copy));
  EXPECT_EQ(copy, data);
  copy.fill(std::byte{9});
  ASSERT_TRUE(sys::process_vm_write(child.pid(), address, copy));
  std::array<std::byte, 10'000> again{};
  ASSERT_TRUE(sys::process_vm_read(child.pid(), address, again));
  EXPECT_EQ(again, copy);
  EXPECT_EQ(data[0], std::byte{7});
  EXPECT_FALSE(sys::process_vm_read(child.pid(), 0x10, copy));
}

TEST(Ptrace, StopLookAndLetGo) {
  const Child child;
  const auto wait_stop = [&] {
    return sys::waitid(P_PID, static_cast<id_t>(child.pid()), WSTOPPED | WEXITED | __WALL).value().value();
  };
  ASSERT_TRUE(ptrace::seize(child.pid(), PTRACE_O_TRACESYSGOOD));
  ASSERT_TRUE(ptrace::interrupt(child.pid()));
  EXPECT_EQ(wait_stop().status, SIGTRAP | PTRACE_EVENT_STOP << 8);

  ::user_regs_struct regs{};
  const auto bytes = std::as_writable_bytes(std::span(&regs, 1));
  EXPECT_EQ(ptrace::getregset(child.pid(), NT_PRSTATUS, bytes).value(), sizeof regs);
  EXPECT_NE(regs.rip, 0u);
  EXPECT_TRUE(ptrace::setregset(child.pid(), NT_PRSTATUS, bytes));

  const std::uint64_t mask = 1u << (SIGUSR1 - 1) | 1u << (SIGUSR2 - 1);
  ASSERT_TRUE(ptrace::setsigmask(child.pid(), mask));
  EXPECT_EQ(ptrace::getsigmask(child.pid()).value(), mask);
  ASSERT_TRUE(sys::tgkill(child.pid(), child.pid(), SIGUSR1));
  ASSERT_TRUE(sys::kill(child.pid(), SIGUSR2));
  const auto own = ptrace::peeksiginfo(child.pid(), false).value();
  const auto shared = ptrace::peeksiginfo(child.pid(), true).value();
  ASSERT_EQ(own.size(), 1u);
  ASSERT_EQ(shared.size(), 1u);
  EXPECT_EQ(own[0].si_signo, SIGUSR1);
  EXPECT_EQ(shared[0].si_signo, SIGUSR2);

  EXPECT_EQ(ptrace::getsiginfo(child.pid()).value().si_signo, SIGTRAP);
  EXPECT_TRUE(ptrace::detach(child.pid()));
  const auto gone = ptrace::getsigmask(child.pid());
  EXPECT_TRUE(!gone && gone.error().is_kernel(ESRCH));
}

}  // namespace
}  // namespace dormouse::sys
