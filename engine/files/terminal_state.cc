#include "engine/files/terminal_state.h"

#include <fcntl.h>
#include <linux/major.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstring>

#include "base/format.h"
#include "engine/files/open_file.h"
#include "images/schema/terminals.pb.h"
#include "kernel/file.h"
#include "kernel/proc/stat.h"

namespace dormouse::engine {
namespace {

// Numbers that the image format gives to terminals without an index.
constexpr std::uint32_t kMaxPtyIndex = 1000;
constexpr std::uint32_t kConsoleIndex = 1002;
constexpr std::uint32_t kVirtualIndex = 1004;
constexpr std::uint32_t kControllingIndex = 1006;
constexpr std::uint32_t kSerialIndex = 1010;

// Majors that <linux/major.h> lacks, and the extent of the pseudo terminals' range.
constexpr unsigned kUsbSerialMajor = 188;
constexpr unsigned kLowDensitySerialMajor = 204;
constexpr unsigned kPtyMajors = UNIX98_PTY_MAJOR_COUNT;
constexpr unsigned kMaxVirtualTerminal = 63;

// struct termios of the kernel (asm-generic/termbits.h); the C library's is larger.
struct KernelTermios {
  std::uint32_t c_iflag, c_oflag, c_cflag, c_lflag;
  std::uint8_t c_line;
  std::uint8_t c_cc[19];
};
static_assert(sizeof(KernelTermios) == 36);

void to_image(const KernelTermios& from, pb::termios_entry* to) {
  to->set_c_iflag(from.c_iflag);
  to->set_c_oflag(from.c_oflag);
  to->set_c_cflag(from.c_cflag);
  to->set_c_lflag(from.c_lflag);
  to->set_c_line(from.c_line);
  to->set_c_ispeed(0);  // as the format has it: the speed is part of c_cflag
  to->set_c_ospeed(0);
  // The format has a word for each control character, but what it holds is their bytes, four to a word.
  std::uint32_t words[std::size(from.c_cc)] = {};
  std::memcpy(words, from.c_cc, sizeof from.c_cc);
  for (const std::uint32_t word : words) to->add_c_cc(word);
}

Result<KernelTermios> from_image(const pb::termios_entry& from) {
  KernelTermios to{};
  if (from.c_cc_size() < static_cast<int>(std::size(to.c_cc)))
    return fail(Error::corrupt(format("terminal settings have only {} control characters", from.c_cc_size())));
  to.c_iflag = from.c_iflag();
  to.c_oflag = from.c_oflag();
  to.c_cflag = from.c_cflag();
  to.c_lflag = from.c_lflag();
  to.c_line = static_cast<std::uint8_t>(from.c_line());
  std::uint32_t words[std::size(to.c_cc)];
  for (std::size_t i = 0; i < std::size(words); ++i) words[i] = from.c_cc(static_cast<int>(i));
  std::memcpy(to.c_cc, words, sizeof to.c_cc);
  return to;
}

// A request that only some terminals know: ENOTTY is "no".
Result<int> ask(int fd, unsigned long request) {
  int answer = 0;
  auto asked = sys::ioctl(fd, request, &answer);
  if (!asked && !asked.error().is_kernel(ENOTTY)) return fail(std::move(asked).error());
  return answer;
}

pid_t session_in_image(pid_t session, const Tree& tree) {
  for (const auto& task : tree.tasks)
    if (::getsid(task->pid) == session) return task->ns_sid;
  return 0;
}

pid_t group_in_image(pid_t group, const Tree& tree) {
  for (const auto& task : tree.tasks)
    if (::getpgid(task->pid) == group) return task->ns_pgid;
  return 0;
}

struct Control {
  pid_t session = 0, group = 0;
};

// The kernel tells a terminal's session only to its own tasks (TIOCGSID), or through a master.
Result<Control> control_through_master(int fd, const Tree& tree) {
  const pid_t session = TRY(ask(fd, TIOCGSID));
  const pid_t group = TRY(ask(fd, TIOCGPGRP));
  return Control{session_in_image(session, tree), group_in_image(group, tree)};
}

// The device that an open file is, where its node says something else: /dev/tty, /dev/console.
Result<dev_t> device_behind(int fd) {
  unsigned device = 0;  // encoded like the minor and major numbers in /proc/PID/stat
  TRY(sys::ioctl(fd, TIOCGDEV, &device));
  return static_cast<dev_t>(device);
}

Result<Control> control_through_tasks(int fd, const Tree& tree) {
  const dev_t device = TRY(device_behind(fd));
  for (const auto& task : tree.tasks) {
    if (!task->alive()) continue;
    const std::string text = TRY(sys::read_file(task->proc.get(), "stat"));
    const auto stat = TRY(proc::parse_stat(text));
    if (stat.tty_device != device) continue;
    return Control{task->ns_sid, group_in_image(stat.tty_pgrp, tree)};
  }
  return Control{};
}

Result<> read_settings(int fd, pb::tty_info_entry& info) {
  KernelTermios termios{}, locked{};
  TRY(sys::ioctl(fd, TCGETS, &termios));
  TRY(sys::ioctl(fd, TIOCGLCKTRMIOS, &locked));
  ::winsize size{};
  TRY(sys::ioctl(fd, TIOCGWINSZ, &size));
  to_image(termios, info.mutable_termios());
  to_image(locked, info.mutable_termios_locked());
  info.mutable_winsize()->set_ws_row(size.ws_row);
  info.mutable_winsize()->set_ws_col(size.ws_col);
  info.mutable_winsize()->set_ws_xpixel(size.ws_xpixel);
  info.mutable_winsize()->set_ws_ypixel(size.ws_ypixel);
  return {};
}

// Needs CAP_SYS_ADMIN on the node, so it is left alone where it would change nothing.
Result<> lock_settings(int fd, const pb::termios_entry& wanted) {
  KernelTermios locked = TRY(from_image(wanted));
  KernelTermios now{};
  TRY(sys::ioctl(fd, TIOCGLCKTRMIOS, &now));
  if (std::memcmp(&now, &locked, sizeof now) == 0) return {};
  TRY(sys::ioctl(fd, TIOCSLCKTRMIOS, &locked));
  return {};
}

}  // namespace

std::optional<TerminalDevice> terminal_device(dev_t rdev) {
  const unsigned major_number = major(rdev), minor_number = minor(rdev);
  if (major_number >= UNIX98_PTY_SLAVE_MAJOR && major_number < UNIX98_PTY_SLAVE_MAJOR + kPtyMajors)
    return TerminalDevice{pb::PTY, false, (major_number - UNIX98_PTY_SLAVE_MAJOR) * 256 + minor_number};
  switch (major_number) {
    case TTYAUX_MAJOR:
      if (minor_number == 0) return TerminalDevice{pb::CTTY, false, kControllingIndex};
      if (minor_number == 1) return TerminalDevice{pb::CONSOLE, false, kConsoleIndex};
      if (minor_number == 2) return TerminalDevice{pb::PTY, true, 0};
      return std::nullopt;
    case TTY_MAJOR:
      if (minor_number >= 1 && minor_number <= kMaxVirtualTerminal)
        return TerminalDevice{pb::VT, false, kVirtualIndex};
      return std::nullopt;
    case kUsbSerialMajor:
    case kLowDensitySerialMajor:
      return TerminalDevice{pb::SERIAL, false, kSerialIndex};
    default:
      return std::nullopt;
  }
}

Result<std::uint32_t> master_index(int fd) {
  unsigned index = 0;
  TRY(sys::ioctl(fd, TIOCGPTN, &index));
  if (index > kMaxPtyIndex)
    return fail(Error::unsupported(format("terminal number {} is beyond what an image can hold ({})", index,
                                          kMaxPtyIndex)));
  return index;
}

Result<> read_terminal(const OpenFile& file, bool is_master, const Tree& tree, pb::tty_info_entry& info) {
  const int fd = file.fd.get();
  info.set_rdev(static_cast<std::uint32_t>(file.stat.st_rdev));
  info.set_dev(static_cast<std::uint32_t>(file.stat.st_dev));
  info.set_uid(file.stat.st_uid);
  info.set_gid(file.stat.st_gid);
  info.set_locked(false);
  info.set_exclusive(false);
  info.set_packet_mode(false);
  info.set_sid(0);
  info.set_pgrp(0);

  auto exclusive = ask(fd, TIOCGEXCL);
  // The other end is closed, for good: only the descriptor is left.
  if (!exclusive && exclusive.error().is_kernel(EIO)) return {};
  info.set_exclusive(TRY(std::move(exclusive)) != 0);
  info.set_locked(TRY(ask(fd, TIOCGPTLCK)) != 0);
  info.set_packet_mode(TRY(ask(fd, TIOCGPKT)) != 0);
  const Control control = is_master ? TRY(control_through_master(fd, tree))
                                    : TRY(control_through_tasks(fd, tree));
  info.set_sid(static_cast<std::uint32_t>(control.session));
  info.set_pgrp(static_cast<std::uint32_t>(control.group));
  return read_settings(fd, info);
}

Result<> apply_terminal(int fd, const pb::tty_info_entry& info) {
  if (info.has_termios_locked()) TRY(lock_settings(fd, info.termios_locked()));
  if (info.has_termios()) {
    KernelTermios termios = TRY(from_image(info.termios()));
    TRY(sys::ioctl(fd, TCSETS, &termios));
  }
  if (info.has_winsize()) {
    ::winsize size{};
    size.ws_row = static_cast<unsigned short>(info.winsize().ws_row());
    size.ws_col = static_cast<unsigned short>(info.winsize().ws_col());
    size.ws_xpixel = static_cast<unsigned short>(info.winsize().ws_xpixel());
    size.ws_ypixel = static_cast<unsigned short>(info.winsize().ws_ypixel());
    TRY(sys::ioctl(fd, TIOCSWINSZ, &size));
  }
  if (info.has_uid() && info.has_gid()) TRY(sys::fchownat(fd, "", info.uid(), info.gid(), AT_EMPTY_PATH));
  return {};
}

}  // namespace dormouse::engine
