#include "engine/files/files_restore.h"

#include <fcntl.h>

#include <map>

#include "base/format.h"
#include "engine/files/opener.h"
#include "engine/files/registry.h"
#include "engine/files/terminals.h"
#include "images/schema/files.pb.h"
#include "images/schema/terminals.pb.h"
#include "kernel/file.h"

namespace dormouse::engine {

struct FilesRestore::State {
  RestoreContext& context;
  std::unique_ptr<FilesOpener> opener;
  FileKinds kinds = all_file_kinds();
  std::map<std::uint32_t, Fd> open_files = {};  // by file id

  Result<const pb::file_entry*> record(std::uint32_t id) const {
    const auto found = context.image.files.find(id);
    if (found == context.image.files.end())
      return fail(Error::corrupt(format("files.img has no open file with id {}", id)));
    return &found->second;
  }
  Result<FileKind*> kind_of(const pb::file_entry& record) const {
    if (FileKind* const kind = kind_of_type(kinds, record.type())) return kind;
    return fail(Error::unsupported(format("open files of type {} cannot be restored yet",
                                          static_cast<int>(record.type())))
                    .object(format("open file {}", record.id())));
  }
  Result<int> open(std::uint32_t file_id);
};

FilesRestore::FilesRestore(std::unique_ptr<State> state) : state_(std::move(state)) {}
FilesRestore::FilesRestore(FilesRestore&&) noexcept = default;
FilesRestore::~FilesRestore() = default;

Result<FilesRestore> FilesRestore::begin(RestoreContext& context, Fd root) {
  auto opener = TRY(FilesOpener::create(context, std::move(root)));
  return FilesRestore(std::unique_ptr<State>(new State{context, std::move(opener)}));
}

Result<> FilesRestore::set_root_task(pid_t pid) { return state_->opener->set_root_task(pid); }

void FilesRestore::set_pid_lookup(std::function<pid_t(pid_t)> lookup) {
  state_->opener->set_pid_lookup(std::move(lookup));
}

Result<int> FilesRestore::open(std::uint32_t file_id) { return state_->open(file_id); }

Result<int> FilesRestore::State::open(std::uint32_t file_id) {
  if (const auto found = open_files.find(file_id); found != open_files.end()) return found->second.get();
  const pb::file_entry& file_record = *TRY(record(file_id));
  FileKind* const kind = TRY(kind_of(file_record));
  Fd file = TRY_OR(kind->open(file_record, *opener), std::move(e).object(format("open file {}", file_id)));
  return open_files.emplace(file_id, std::move(file)).first->second.get();
}

Result<std::optional<FilesRestore::OpenedByTask>> FilesRestore::opened_by_task(std::uint32_t file_id) {
  const pb::file_entry& record = *TRY(state_->record(file_id));
  if (record.type() != pb::TTY || state_->open_files.contains(file_id)) return std::nullopt;
  Terminals* const terminals = TRY(state_->opener->terminals());
  if (!terminals->is_callers_own(record.tty())) return std::nullopt;
  const auto* const path = TRY(state_->opener->path_entry(record.tty().regf_id()));
  return OpenedByTask{path->name(), static_cast<int>(record.tty().flags() & O_ACCMODE) | O_NOCTTY | O_NONBLOCK};
}

Result<> FilesRestore::adopt(std::uint32_t file_id, Fd file) {
  const pb::file_entry& record = *TRY(state_->record(file_id));
  TRY_OR(state_->opener->set_owner_and_flags(file.get(), record.tty().fown(), record.tty().flags()),
         std::move(e).object(format("terminal of open file {}", file_id)));
  state_->open_files.emplace(file_id, std::move(file));
  return {};
}

Result<> FilesRestore::set_owner_again(std::uint32_t file_id) {
  const auto* const entry = TRY(state_->opener->path_entry(file_id));
  const int fd = TRY(open(file_id));
  ::f_owner_ex nobody{F_OWNER_PID, 0};
  TRY(sys::fcntl_pointer(fd, F_SETOWN_EX, &nobody));
  TRY(sys::fcntl(fd, F_SETSIG, static_cast<long>(entry->fown().signum())));
  return state_->opener->set_owner_and_flags(fd, entry->fown(), entry->flags());
}

Result<Fd> FilesRestore::open_as(std::uint32_t file_id, std::uint32_t flags) {
  const pb::file_entry& record = *TRY(state_->record(file_id));
  FileKind* const kind = TRY(state_->kind_of(record));
  return TRY_OR(kind->open_as(record, flags, *state_->opener), std::move(e).object(format("open file {}", file_id)));
}

Result<std::optional<FilesRestore::ControllingTerminal>> FilesRestore::controlling_terminal(pid_t session) {
  Terminals* const terminals = TRY(state_->opener->terminals());
  const auto found = TRY(terminals->controlling(session));
  if (!found) return std::nullopt;
  return ControllingTerminal{found->fd, found->foreground_group};
}

Result<> FilesRestore::adopt_terminal_master(std::uint32_t index, Fd master) {
  Terminals* const terminals = TRY(state_->opener->terminals());
  terminals->adopt_master(index, std::move(master));
  return {};
}

Result<> FilesRestore::refill() {
  State* const state = state_.get();
  state->opener->set_file_lookup([state](std::uint32_t id) { return state->open(id); });
  for (const auto& kind : state_->kinds) TRY(kind->open_in_flight(*state_->opener));
  for (const auto& kind : state_->kinds) TRY(kind->refill(*state_->opener));
  state_->opener->dismiss_former_processes();
  return {};
}

void FilesRestore::keep() {
  state_->opener->remove_links();
  for (const auto& kind : state_->kinds) kind->keep();
}

}  // namespace dormouse::engine
