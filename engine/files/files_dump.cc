#include "engine/files/files_dump.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

#include "base/parallel.h"
#include "base/text.h"
#include "engine/files/file_locks.h"
#include "engine/files/identity.h"
#include "engine/files/memfd.h"
#include "engine/files/open_file.h"
#include "engine/files/registry.h"
#include "engine/files/saver.h"
#include "engine/files/unsupported.h"
#include "images/schema/files.pb.h"
#include "kernel/file.h"
#include "kernel/process.h"

namespace dormouse::engine {
namespace {

// In ascending order, which is also how images hold them.
Result<std::vector<int>> descriptor_numbers(const Task& task) {
  std::vector<int> numbers;
  const auto entries = TRY(sys::list_directory(task.proc.get(), "fd"));
  for (const auto& entry : entries)
    if (const auto number = parse_number<int>(entry.name)) numbers.push_back(*number);
  std::ranges::sort(numbers);
  return numbers;
}

bool is_device(const OpenFile& file) {
  return S_ISCHR(file.stat.st_mode) || S_ISBLK(file.stat.st_mode);
}

// Whether what the task has there are the first bytes of the file.
bool shows_beginning(const proc::Vma& vma) {
  return vma.offset == 0 && vma.readable && vma.anonymous_kb == 0 && vma.swap_kb == 0;
}

}  // namespace

struct FilesDump::State {
  DumpContext& context;
  std::unique_ptr<FilesSaver> saver;
  FileKinds kinds = all_file_kinds();
  OpenFileSet identities = {};
  LocksDump locks{context};
  // Paths saved for something else than a descriptor: by device, inode, mount, flags and name.
  using PathKey = std::tuple<std::uint64_t, std::uint64_t, int, std::uint32_t, std::string>;
  std::map<PathKey, std::uint32_t> paths = {};
  // Mapped files: device, inode, flags and name, all tasks being in one mount namespace.
  using MappedKey = std::tuple<std::uint32_t, std::uint32_t, std::uint64_t, int, std::string>;
  std::map<MappedKey, std::uint32_t> mapped = {};
  Result<std::uint32_t> save_examined(const OpenFile& file);
  // Descriptors that messages carry are open in the engine, until all files are known (kcmp needs them open). Each
  // is seen as one of a task that has the engine's table, and the name of the task that had the socket.
  struct Carrier {
    Task task;
    std::vector<Fd> descriptors;
  };
  std::map<const Task*, std::unique_ptr<Carrier>> carriers = {};

  MemfdFile& memfds() const { return static_cast<MemfdFile&>(*kind_of_type(kinds, pb::MEMFD)); }
  // Saves the open file behind a descriptor unless that is done; the record says which one it is.
  Result<> save_descriptor(const OpenFile& file, pb::fdinfo_entry& record);
  std::map<std::pair<const Task*, std::string>, OpenFile> seen_ahead = {};
  Result<std::uint32_t> save_carried(Fd descriptor, const Task& task);
};

Result<std::uint32_t> FilesDump::State::save_carried(Fd descriptor, const Task& task) {
  auto& carrier = carriers[&task];
  if (!carrier) {
    carrier = std::make_unique<Carrier>();
    carrier->task.pid = ::getpid();
    carrier->task.ns_pid = task.ns_pid;
    carrier->task.comm = task.comm;
    carrier->task.pidfd = TRY(sys::pidfd_open(::getpid()));
    carrier->task.proc = TRY(sys::openat(AT_FDCWD, "/proc/self", O_PATH | O_DIRECTORY));
  }
  pb::fdinfo_entry record;
  OpenFile file = TRY(examine_descriptor(carrier->task, descriptor.get()));
  file.carried = true;
  TRY(save_descriptor(file, record));
  carrier->descriptors.push_back(std::move(descriptor));
  return record.id();
}

Result<> FilesDump::State::save_descriptor(const OpenFile& file, pb::fdinfo_entry& record) {
  const auto [known, is_new] =
      TRY_OR(identities.find_or_add(file, saver->next_id()), file.failed(std::move(e)));
  if (is_new) {
    FileKind* const kind = kind_of(kinds, file);
    if (kind == nullptr) return fail(unsupported_file(file));
    TRY(kind->save(file, known->id, *saver));
    known->type = kind->type();
  }
  // Losing a lock without a word would let two have what only one may.
  TRY(locks.note(file, known->id));
  record.set_id(known->id);
  record.set_flags(file.close_on_exec ? FD_CLOEXEC : 0);
  // UND: an earlier descriptor of the same open file has already become a blocker.
  record.set_type(static_cast<pb::fd_types>(known->type));
  record.set_fd(static_cast<std::uint32_t>(file.number));
  return {};
}

FilesDump::FilesDump(std::unique_ptr<State> state) : state_(std::move(state)) {}
FilesDump::FilesDump(FilesDump&&) noexcept = default;
FilesDump::~FilesDump() = default;

Result<FilesDump> FilesDump::begin(DumpContext& context, const MountTable& mounts) {
  auto saver = TRY(FilesSaver::create(context, mounts));
  std::unique_ptr<State> state(new State{context, std::move(saver)});
  state->saver->set_carried_saver([state = state.get()](Fd descriptor, const Task& task) {
    return state->save_carried(std::move(descriptor), task);
  });
  return FilesDump(std::move(state));
}

namespace {

struct TableEntry {
  const Task* task;
  int number;
};

// The tables of all these tasks one after the other.
Result<std::vector<TableEntry>> entries_of(std::span<const Task* const> tasks) {
  std::vector<std::vector<int>> numbers(tasks.size());
  TRY(in_parallel(tasks.size(), [&](std::size_t i) -> Result<> {
    numbers[i] = TRY_OR(descriptor_numbers(*tasks[i]), std::move(e).owner(tasks[i]->name()));
    return {};
  }));
  std::vector<TableEntry> entries;
  for (std::size_t i = 0; i < tasks.size(); ++i)
    for (const int number : numbers[i]) entries.push_back({tasks[i], number});
  return entries;
}

}  // namespace

// They are looked at several at a time, and saved one after the other: so they get their ids.
Result<> FilesDump::save_tables(std::span<const Task* const> tasks) {
  constexpr std::size_t kAtOnce = 128;  // each costs a descriptor
  const std::vector<TableEntry> entries = TRY(entries_of(tasks));
  const Task* of = nullptr;
  std::optional<images::Writer> writer;
  for (std::size_t from = 0; from < entries.size(); from += kAtOnce) {
    const auto some = std::span(entries).subspan(from, std::min(kAtOnce, entries.size() - from));
    std::vector<Result<OpenFile>> files(some.size());
    TRY(in_parallel(some.size(), [&](std::size_t i) -> Result<> {
      files[i] = examine_descriptor(*some[i].task, some[i].number);
      return {};
    }));
    for (std::size_t i = 0; i < some.size(); ++i) {
      if (some[i].task != of) {
        if (writer) TRY(writer->finish());
        of = some[i].task;
        writer = TRY(state_->context.out.create(images::kFdinfo, of->files_id));
      }
      pb::fdinfo_entry record;
      auto saved = files[i] ? state_->save_descriptor(*files[i], record) : fail(std::move(files[i]).error());
      if (state_->context.blockers.note(std::move(saved))) TRY(writer->append(record));
    }
  }
  return writer ? writer->finish() : Result<>{};
}

Result<std::uint32_t> FilesDump::save_mapped(const Task& task, const proc::Vma& vma, int open_flags) {
  const std::string link = format("map_files/{:x}-{:x}", vma.start, vma.end);
  const State::MappedKey key{vma.device_major, vma.device_minor, vma.inode, open_flags, vma.name};
  if (const auto found = state_->mapped.find(key); found != state_->mapped.end()) return found->second;
  OpenFile file = TRY(examine_link(task, link, open_flags));
  if (shows_beginning(vma)) file.beginning_at = vma.start, file.beginning_bytes = vma.size_bytes();
  const std::uint32_t id = TRY(state_->save_examined(file));
  if (!is_device(file)) state_->mapped.emplace(key, id);
  return id;
}

Result<std::uint32_t> FilesDump::save_path(const Task& task, const std::string& proc_link, int open_flags) {
  const auto seen = state_->seen_ahead.extract({&task, proc_link});
  OpenFile file = seen ? std::move(seen.mapped()) : TRY(examine_link(task, proc_link, open_flags));
  file.executed = proc_link == "exe";
  return state_->save_examined(file);
}

void FilesDump::look_ahead(std::span<const Task* const> tasks, const std::string& proc_link, int open_flags) {
  std::vector<Result<OpenFile>> files(tasks.size());
  (void)in_parallel(tasks.size(), [&](std::size_t i) -> Result<> {
    files[i] = examine_link(*tasks[i], proc_link, open_flags);
    return {};
  });
  for (std::size_t i = 0; i < tasks.size(); ++i)
    if (files[i]) state_->seen_ahead.insert_or_assign({tasks[i], proc_link}, *std::move(files[i]));
}

Result<std::uint32_t> FilesDump::State::save_examined(const OpenFile& file) {
  const PathKey key{file.stat.st_dev, file.stat.st_ino, file.mount_id, file.flags, file.link};
  if (const auto found = paths.find(key); found != paths.end()) return found->second;
  std::uint32_t id = 0;
  if (auto& known = memfds(); known.matches(file)) {
    id = saver->next_id()++;
    TRY(known.save(file, id, *saver));
  } else {
    id = TRY(saver->paths().save(file, *saver));
  }
  // Each mapping of a device is a new opening of it: only the driver knows what that means.
  if (!is_device(file)) paths.emplace(key, id);
  return id;
}

Result<> FilesDump::save_in_flight() {
  for (const auto& kind : state_->kinds) TRY(kind->save_in_flight(*state_->saver));
  return state_->locks.finish();
}
bool FilesDump::holds_memory(std::uint64_t inode, bool huge) const { return state_->memfds().has_saved(inode, huge); }

const std::vector<MemoryObject>& FilesDump::memory_objects() const { return state_->saver->memory_objects(); }

Result<> FilesDump::finish() {
  for (const auto& kind : state_->kinds) TRY(kind->finish_saving(*state_->saver));
  return state_->saver->finish();
}

void FilesDump::keep() { state_->saver->paths().keep_links(); }

}  // namespace dormouse::engine
