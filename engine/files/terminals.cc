#include "engine/files/terminals.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/format.h"
#include "engine/files/opener.h"
#include "engine/files/paths.h"
#include "engine/files/terminal_queue.h"
#include "engine/files/terminal_state.h"
#include "images/schema/files.pb.h"
#include "images/schema/terminals.pb.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

// How many masters may be opened to reach an index; the kernel gives out the lowest free one.
constexpr std::uint32_t kMaxIndex = 1000;

// The devpts instance's ptmx: "/dev/pts/3" -> "/dev/pts/ptmx". A slave mounted elsewhere ("/dev/console")
// has a ptmx beside it by convention.
std::string ptmx_beside(const std::string& slave_path) {
  return slave_path.substr(0, slave_path.rfind('/') + 1) + "ptmx";
}

int open_mode(std::uint32_t flags) { return static_cast<int>(flags & O_ACCMODE) | O_NOCTTY | O_NONBLOCK; }

// The node, if it is the very terminal: opening some other device could have effects.
Result<Fd> locate_device(int root, const std::string& path, bool (*fits)(dev_t, std::uint32_t),
                         std::uint32_t index) {
  Fd node = TRY(open_below(root, path, O_PATH));
  const auto st = TRY(sys::fstat(node.get()));
  if (!S_ISCHR(st.st_mode) || !fits(st.st_rdev, index))
    return fail(Error::conflict(format("is not the expected terminal (device {}:{})", major(st.st_rdev),
                                       minor(st.st_rdev)),
                                ESTALE));
  return node;
}

bool is_master_node(dev_t rdev, std::uint32_t) {
  const auto device = terminal_device(rdev);
  return device && device->is_master;
}
bool is_slave_node(dev_t rdev, std::uint32_t index) {
  const auto device = terminal_device(rdev);
  return device && device->type == pb::PTY && !device->is_master && device->index == index;
}
bool is_any_terminal(dev_t rdev, std::uint32_t) { return terminal_device(rdev).has_value(); }

std::string key_of(const pb::tty_info_entry& info) { return format("tty[{:x}:{:x}]", info.rdev(), info.dev()); }

}  // namespace

Terminals::Terminals(FilesOpener& opener) : opener_(opener) {}
Terminals::~Terminals() = default;

Result<std::unique_ptr<Terminals>> Terminals::load(FilesOpener& opener) {
  std::unique_ptr<Terminals> terminals(new Terminals(opener));
  const auto& in = opener.context().in;
  if (!in.exists(images::kTtyInfo)) return terminals;
  images::Reader reader = TRY(in.reader(images::kTtyInfo));
  pb::tty_info_entry info;
  while (TRY(reader.next(info))) {
    if ((info.type() == pb::PTY) != info.has_pty())
      return fail(reader.corrupt(format("terminal {} is of type {} but {} an index", info.id(),
                                        static_cast<int>(info.type()), info.has_pty() ? "has" : "lacks")));
    if (info.has_pty() && info.pty().index() > kMaxIndex)
      return fail(reader.corrupt(format("terminal index {}", info.pty().index())));
    terminals->infos_[info.id()] = std::make_unique<pb::tty_info_entry>(info);
  }
  return terminals;
}

void Terminals::adopt_master(std::uint32_t index, Fd master) { masters_[index] = std::move(master); }

Result<const pb::tty_info_entry*> Terminals::info_of(const pb::tty_file_entry& entry) const {
  const auto found = infos_.find(entry.tty_info_id());
  if (found == infos_.end())
    return fail(Error::corrupt(format("tty-info.img has no terminal {}", entry.tty_info_id())));
  return found->second.get();
}

bool Terminals::has_master_in_image(std::uint32_t index) const {
  return infos_.contains(terminal_number(index, true));
}

Result<> Terminals::apply_once(int fd, const pb::tty_info_entry& info) {
  if (!applied_.insert(info.id()).second) return {};
  return apply_terminal(fd, info);
}

Result<Fd> Terminals::open(const pb::tty_file_entry& entry) {
  const pb::tty_info_entry& info = *TRY(info_of(entry));
  auto open_it = [&]() -> Result<Fd> {
    if (const auto given = opener_.inherited(key_of(info))) return sys::duplicate(*given);
    switch (info.type()) {
      case pb::PTY: {
        const bool is_master = info.id() % 2 == 1;
        if (!is_master) return open_slave(entry, info);
        const auto& path = *TRY(opener_.path_entry(entry.regf_id()));
        const int master_fd = TRY(master(info.pty().index(), path.name()));
        return sys::duplicate(master_fd);
      }
      case pb::EXT_TTY:
        return fail(Error::bad_option("it is external, and no descriptor is given for it")
                        .remedy(format("pass one: --inherit-fd fd[N]:{}", key_of(info))));
      case pb::CONSOLE:
      case pb::VT:
      case pb::SERIAL: {
        const auto& path = *TRY(opener_.path_entry(entry.regf_id()));
        const Fd node = TRY_OR(locate_device(opener_.root(), path.name(), is_any_terminal, 0),
                               std::move(e).object(path.name()));
        return reopen(node.get(), open_mode(entry.flags()));
      }
      case pb::CTTY:
        return fail(Error::unsupported("no task of its session has it open")
                        .remedy("the image says that a task of another session opened /dev/tty"));
      default:
        return fail(Error::unsupported(format("terminals of type {} cannot be restored",
                                              static_cast<int>(info.type()))));
    }
  };
  const std::string object = format("terminal {}", key_of(info));
  Fd file = TRY_OR(open_it(), std::move(e).object(object));
  TRY_OR(apply_once(file.get(), info), std::move(e).object(object));
  if (!slaves_.contains(info.id()) && info.id() % 2 == 0)
    slaves_[info.id()] = TRY(sys::duplicate(file.get()));
  return file;
}

// As the tree has it open; there may be several names of it.
std::optional<std::string> Terminals::master_path(std::uint32_t index) const {
  for (const auto& [id, record] : opener_.context().image.files) {
    if (record.type() != pb::TTY || record.tty().tty_info_id() != terminal_number(index, true)) continue;
    const auto path = opener_.path_entry(record.tty().regf_id());
    if (path) return (*path)->name();
  }
  return std::nullopt;
}

Result<Fd> Terminals::open_slave(const pb::tty_file_entry& entry, const pb::tty_info_entry& info) {
  const auto& path = *TRY(opener_.path_entry(entry.regf_id()));
  const std::uint32_t index = info.pty().index();
  const bool hung_up = !info.has_termios();
  const bool orphan = !has_master_in_image(index) && !hung_up;
  if (orphan && !opener_.options().orphan_pts_master) {
    if (!opener_.options().shell_job)
      return fail(Error::bad_option("its other end was outside of the checkpoint")
                      .remedy("ask for the new one (orphan-pts-master), or use your own terminal: --shell-job"));
    if (::isatty(STDIN_FILENO) != 1)
      return fail(Error::bad_option("standard input is to replace it, but is no terminal")
                      .remedy("run the restore from a terminal"));
    return sys::duplicate(STDIN_FILENO);
  }
  const int other_end = TRY(master(index, master_path(index).value_or(ptmx_beside(path.name()))));
  const Fd node = TRY_OR(locate_device(opener_.root(), path.name(), is_slave_node, index),
                         std::move(e).object(path.name()));
  Fd slave = TRY(reopen(node.get(), open_mode(entry.flags())));
  // A new node has the mount's mode; the tasks may have changed it (mesg(1)).
  if (path.has_mode()) TRY(sys::fchmod(slave.get(), path.mode() & 07777));
  if (orphan && handed_out_.insert(index).second) TRY(hand_out(other_end));
  return slave;
}

Result<> Terminals::hand_out(int master_fd) {
  const auto& options = opener_.options();
  if (!options.notify) return fail(Error::bad_option("nobody takes the master of the new terminal"));
  return options.notify({.stage = "orphan-pts-master", .descriptor = master_fd});
}

Result<int> Terminals::master(std::uint32_t index, const std::string& ptmx_path) {
  auto found = masters_.find(index);
  if (found == masters_.end()) {
    Fd made = TRY_OR(make_master(index, ptmx_path), std::move(e).object(ptmx_path));
    found = masters_.emplace(index, std::move(made)).first;
  }
  int unlocked = 0;
  TRY(sys::ioctl(found->second.get(), TIOCSPTLCK, &unlocked));
  return found->second.get();
}

// The index cannot be chosen: the kernel takes the lowest free one, so those below are held meanwhile.
Result<Fd> Terminals::make_master(std::uint32_t index, const std::string& ptmx_path) const {
  const Fd node = TRY(locate_device(opener_.root(), ptmx_path, is_master_node, 0));
  std::vector<Fd> held;
  for (;;) {
    Fd made = TRY(reopen(node.get(), O_RDWR | O_NOCTTY));
    const std::uint32_t got = TRY(master_index(made.get()));
    if (got == index) return made;
    if (got > index)
      return fail(Error::conflict(format("terminal number {} is in use", index), EBUSY)
                      .remedy("give the container a devpts of its own, or free the terminal"));
    held.push_back(std::move(made));
  }
}

std::optional<int> Terminals::any_end(std::uint32_t number) const {
  if (const auto found = slaves_.find(number); found != slaves_.end()) return found->second.get();
  if (number % 2 == 1)
    if (const auto found = masters_.find(number / 2); found != masters_.end()) return found->second.get();
  return std::nullopt;
}

Result<> Terminals::finish() {
  TRY(write_waiting_input());
  for (const auto& [number, info] : infos_) {
    const auto fd = any_end(number);
    if (!fd) continue;
    auto put_back = [&]() -> Result<> {
      int on = 1;
      if (info->packet_mode()) TRY(sys::ioctl(*fd, TIOCPKT, &on));
      if (info->locked()) TRY(sys::ioctl(*fd, TIOCSPTLCK, &on));
      if (info->exclusive()) TRY(sys::ioctl(*fd, TIOCEXCL));
      return {};
    };
    TRY_OR(put_back(), std::move(e).object(format("terminal {}", key_of(*info))));
  }
  hang_up();
  return {};
}

// Closing the master hangs all its slaves up, which is how they were. They had to be opened before.
void Terminals::hang_up() {
  for (const auto& [number, info] : infos_)
    if (info->has_pty() && !info->has_termios() && !has_master_in_image(info->pty().index()))
      masters_.erase(info->pty().index());
}

// Terminals promise no delivery, so what does not fit is dropped. Whoever may not type writes to the other end.
Result<> Terminals::write_waiting_input() {
  const auto& in = opener_.context().in;
  if (!in.exists(images::kTtyData)) return {};
  images::Reader reader = TRY(in.reader(images::kTtyData));
  pb::tty_data_entry data;
  while (TRY(reader.next(data))) {
    const auto end = any_end(data.tty_id()), other_end = any_end(data.tty_id() ^ 1);
    if (end && fill_terminal(*end, data.tty_id() % 2 == 1, data.data())) continue;
    if (other_end) (void)sys::write(*other_end, std::as_bytes(std::span(data.data())));
  }
  return {};
}

bool Terminals::is_callers_own(const pb::tty_file_entry& entry) const {
  const auto found = infos_.find(entry.tty_info_id());
  return found != infos_.end() && found->second->type() == pb::CTTY;
}

// One of the descriptors on it, unless that is done.
Result<> Terminals::open_any(std::uint32_t number) {
  if (any_end(number)) return {};
  for (const auto& [id, record] : opener_.context().image.files) {
    if (record.type() != pb::TTY || record.tty().tty_info_id() != number) continue;
    TRY(open(record.tty()));
    return {};
  }
  return {};
}

Result<std::optional<Terminals::Control>> Terminals::controlling(pid_t session) {
  if (session == 0) return std::nullopt;
  const pb::tty_info_entry* best = nullptr;
  for (const auto& [number, info] : infos_) {
    if (info->type() == pb::CTTY) continue;  // another name of one of the others
    if (info->sid() != static_cast<std::uint32_t>(session) || !info->has_termios()) continue;
    if (best == nullptr || best->id() % 2 == 1) best = info.get();  // rather a slave than a master
  }
  if (best == nullptr) return std::nullopt;
  TRY(open_any(best->id()));
  const auto group = static_cast<pid_t>(best->pgrp());
  if (best->id() % 2 == 0) {
    const auto found = slaves_.find(best->id());
    if (found == slaves_.end()) return std::nullopt;
    return Control{found->second.get(), group};
  }
  // Only the master is open in the tree; the session needs the other side.
  const auto found = masters_.find(best->pty().index());
  if (found == masters_.end()) return std::nullopt;
  const int slave = TRY(sys::ioctl(found->second.get(), TIOCGPTPEER, std::uintptr_t{O_RDWR | O_NOCTTY | O_CLOEXEC}));
  const int fd = (slaves_[best->id() ^ 1] = Fd(slave)).get();
  return Control{fd, group};
}

}  // namespace dormouse::engine
