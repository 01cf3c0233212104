#include "engine/files/terminal.h"

#include <fcntl.h>

#include "base/format.h"
#include "engine/files/open_file.h"
#include "engine/files/opener.h"
#include "engine/files/saver.h"
#include "engine/files/terminal_queue.h"
#include "engine/files/terminal_state.h"
#include "engine/files/terminals.h"
#include "images/schema/files.pb.h"
#include "images/schema/terminals.pb.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

// External terminals have numbers of their own, in the order in which they are found.
constexpr std::uint32_t kFirstExternalIndex = 1013;
constexpr std::uint32_t kLastExternalIndex = 1076;

// /dev/tty leads whoever opens it to his own terminal, so only a task of that session can open it again.
Result<> check_controlling(const OpenFile& file, const pb::tty_info_entry& info) {
  if (info.has_termios() && info.sid() == static_cast<std::uint32_t>(file.task->ns_sid)) return {};
  return fail(file.blocked(info.has_termios() ? "leads to the terminal of another session"
                                              : "leads to a terminal that is gone",
                           "close it before the checkpoint"));
}

}  // namespace

int TerminalFile::type() const { return pb::TTY; }

bool TerminalFile::matches(const OpenFile& file) const {
  return S_ISCHR(file.stat.st_mode) && terminal_device(file.stat.st_rdev).has_value();
}

Result<> TerminalFile::save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) {
  TerminalDevice device = *terminal_device(file.stat.st_rdev);
  const bool external = saver.is_external(format("tty[{:x}:{:x}]", file.stat.st_rdev, file.stat.st_dev));
  if (external) {
    std::uint32_t index = kFirstExternalIndex;
    while (saved_.contains(terminal_number(index, false))) ++index;
    if (index > kLastExternalIndex) return fail(file.blocked("is one external terminal too many", "close it"));
    device = {pb::EXT_TTY, false, index};
  } else if (device.is_master) {
    device.index = TRY_OR(master_index(file.fd.get()), file.failed(std::move(e)));
  }

  pb::file_entry record;
  record.set_type(pb::TTY);
  record.set_id(id);
  pb::tty_file_entry* entry = record.mutable_tty();
  entry->set_id(id);
  entry->set_flags(file.flags);
  saver.fill_owner(file, entry->mutable_fown());
  entry->set_tty_info_id(terminal_number(device.index, device.is_master));
  if (!external) entry->set_regf_id(TRY(saver.paths().save(file, saver)));

  auto known = saved_.find(entry->tty_info_id());
  if (known == saved_.end()) {
    pb::tty_info_entry info;
    info.set_id(entry->tty_info_id());
    info.set_type(static_cast<pb::TtyType>(device.type));
    if (device.type == pb::PTY) info.mutable_pty()->set_index(device.index);
    TRY_OR(read_terminal(file, device.is_master, saver.context().tree, info), file.failed(std::move(e)));
    if (device.type == pb::CTTY) TRY(check_controlling(file, info));
    if (!infos_) infos_ = TRY(saver.context().out.create(images::kTtyInfo));
    TRY(infos_->append(info));
    known = saved_.emplace(info.id(), !info.has_termios()).first;
  }
  const bool hung_up = known->second;
  if (device.type == pb::PTY && !device.is_master && !hung_up)
    slaves_.push_back({device.index, file.object(), file.task->name()});
  if (device.type == pb::PTY && !hung_up && (file.flags & O_ACCMODE) != O_WRONLY && !readable_.contains(known->first))
    readable_[known->first] = {TRY(sys::duplicate(file.fd.get())), file.task->name()};
  return saver.write(record);
}

// A slave side works only with its master: in the tree, made anew for the caller of the restore, or
// replaced by the terminal that the restore is run from.
Result<> TerminalFile::save_in_flight(FilesSaver& saver) {
  std::optional<std::uint32_t> orphan;
  const bool orphans_allowed = saver.options().orphan_pts_master || saver.options().shell_job;
  for (const Slave& slave : slaves_) {
    if (saved_.contains(terminal_number(slave.index, true))) continue;
    const char* reason = nullptr;
    if (!orphans_allowed)
      reason = "is a terminal whose other end is outside of what is saved";
    else if (orphan && *orphan != slave.index)
      reason = "is a second terminal whose other end is outside of what is saved; only one can be replaced";
    if (reason != nullptr)
      saver.context().blockers.add(Error::unsupported(reason).object(slave.object).owner(slave.owner).remedy(
          "give the other end at restore (orphan-pts-master of an RPC client), or restore from a shell: "
          "--shell-job"));
    orphan = slave.index;
  }
  return {};
}

// Where the other end is outside, it is who has that end who keeps what waits.
Result<> TerminalFile::save_waiting(FilesSaver& saver) const {
  std::optional<images::Writer> queues;
  for (const auto& [number, end] : readable_) {
    const bool is_master = number % 2 == 1;
    if (!is_master && !saved_.contains(number ^ 1)) continue;
    pb::tty_data_entry entry;
    entry.set_tty_id(number);
    entry.set_data(TRY_OR(peek_terminal(end.fd.get(), is_master),
                          std::move(e).object(format("{} of terminal {}", is_master ? "master" : "slave", number / 2))
                              .owner(end.owner)));
    if (entry.data().empty()) continue;
    if (!queues) queues = TRY(saver.context().out.create(images::kTtyData));
    TRY(queues->append(entry));
  }
  if (!queues) return {};
  return queues->finish();
}

Result<> TerminalFile::finish_saving(FilesSaver& saver) {
  TRY(save_waiting(saver));
  readable_.clear();  // or the terminals would outlive their tasks
  if (!infos_) return {};
  return infos_->finish();
}

Result<Fd> TerminalFile::open(const pb::file_entry& record, FilesOpener& opener) {
  const pb::tty_file_entry& entry = record.tty();
  Terminals* const terminals = TRY(opener.terminals());
  Fd file = TRY(terminals->open(entry));
  TRY_OR(opener.set_owner_and_flags(file.get(), entry.fown(), entry.flags()),
         std::move(e).object(format("terminal of open file {}", entry.id())));
  return file;
}

Result<> TerminalFile::refill(FilesOpener& opener) {
  Terminals* const terminals = TRY(opener.terminals());
  return terminals->finish();
}

}  // namespace dormouse::engine
