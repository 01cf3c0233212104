#include "engine/files/files_restore.h"

#include <map>

#include "base/format.h"
#include "engine/files/opener.h"
#include "engine/files/registry.h"
#include "engine/files/terminals.h"
#include "images/schema/files.pb.h"

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
};

FilesRestore::FilesRestore(std::unique_ptr<State> state) : state_(std::move(state)) {}
FilesRestore::FilesRestore(FilesRestore&&) noexcept = default;
FilesRestore::~FilesRestore() = default;

Result<FilesRestore> FilesRestore::begin(RestoreContext& context, Fd root) {
  auto opener = TRY(FilesOpener::create(context, std::move(root)));
  return FilesRestore(std::unique_ptr<State>(new State{context, std::move(opener)}));
}

void FilesRestore::set_pid_lookup(std::function<pid_t(pid_t)> lookup) {
  state_->opener->set_pid_lookup(std::move(lookup));
}

Result<int> FilesRestore::open(std::uint32_t file_id) {
  if (const auto found = state_->open_files.find(file_id); found != state_->open_files.end())
    return found->second.get();
  const pb::file_entry& record = *TRY(state_->record(file_id));
  FileKind* const kind = TRY(state_->kind_of(record));
  Fd file = TRY_OR(kind->open(record, *state_->opener), std::move(e).object(format("open file {}", file_id)));
  return state_->open_files.emplace(file_id, std::move(file)).first->second.get();
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
  for (const auto& kind : state_->kinds) TRY(kind->refill(*state_->opener));
  return {};
}

void FilesRestore::keep() { state_->opener->remove_links(); }

}  // namespace dormouse::engine
