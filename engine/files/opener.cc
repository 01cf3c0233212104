#include "engine/files/opener.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/defer.h"
#include "base/format.h"
#include "engine/files/build_id.h"
#include "engine/files/ghost_file.h"
#include "engine/files/paths.h"
#include "engine/files/terminals.h"
#include "images/schema/files.pb.h"
#include "images/schema/regular_files.pb.h"
#include "kernel/file.h"
#include "kernel/process.h"

namespace dormouse::engine {
namespace {

constexpr mode_t kPermissions = 0777;
// What fcntl(F_SETFL) changes; the rest is decided by open().
constexpr int kStatusFlags = O_APPEND | O_ASYNC | O_DIRECT | O_NOATIME | O_NONBLOCK;
// What an image may ask of open(): nothing that creates, truncates, or makes a controlling terminal.
constexpr int kOpenFlags = O_ACCMODE | O_APPEND | O_DIRECT | O_DIRECTORY | O_DSYNC | O_LARGEFILE | O_NOATIME |
                           O_NONBLOCK | O_PATH | O_SYNC;

int open_flags(std::uint32_t saved) {
  // An unnamed temporary file (O_TMPFILE, which contains O_DIRECTORY) comes back as a ghost.
  if ((saved & O_TMPFILE) == O_TMPFILE) saved &= ~static_cast<std::uint32_t>(O_TMPFILE);
  if (saved & O_PATH) return O_PATH;
  return (static_cast<int>(saved) & kOpenFlags) | O_NOCTTY;
}

// O_PATH | O_NOFOLLOW: a symbolic link as such, or whatever else the path names.
bool is_path_itself(std::uint32_t flags) { return (flags & O_PATH) != 0 && (flags & O_NOFOLLOW) != 0; }

Error changed(std::string reason, std::string remedy) {
  return Error::conflict(std::move(reason), ESTALE).remedy(std::move(remedy));
}

Result<> check_mode(const pb::reg_file_entry& entry, mode_t now, bool skip_permissions) {
  if (!entry.has_mode()) return {};
  const mode_t then = entry.mode();
  const mode_t ignored = skip_permissions ? kPermissions : 0;
  if ((now & ~ignored) == (then & ~ignored)) return {};
  const bool same_kind = (now & S_IFMT) == (then & S_IFMT);
  return fail(changed(format("its mode is 0{:o}, but was 0{:o} at the checkpoint", now, then),
                      same_kind ? "put the mode back, or skip the check of rwx bits: --skip-file-rwx-check"
                                : "put the file back"));
}

Result<> check_content(const pb::reg_file_entry& entry, int fd, const struct stat& now) {
  if (!entry.has_size() || !S_ISREG(now.st_mode)) return {};
  const auto size = static_cast<std::uint64_t>(now.st_size);
  if (size != entry.size())
    return fail(changed(format("it has {} bytes, but had {} at the checkpoint", size, entry.size()),
                        "put the file back as it was"));
  if (entry.build_id_size() == 0) return {};
  const auto build_id = build_id_of(fd, size);
  if (build_id.empty() || std::ranges::equal(build_id, entry.build_id())) return {};
  return fail(changed("it is another build of the program (build id differs) than at the checkpoint",
                      "put the file back as it was"));
}

}  // namespace

FilesOpener::FilesOpener(const RestoreContext& context, Fd root)
    : context_(context), root_(std::move(root)) {}
FilesOpener::~FilesOpener() = default;

Result<Terminals*> FilesOpener::terminals() {
  if (!terminals_) terminals_ = TRY(Terminals::load(*this));
  return terminals_.get();
}

Result<std::unique_ptr<FilesOpener>> FilesOpener::create(const RestoreContext& context, Fd root) {
  std::unique_ptr<FilesOpener> opener(new FilesOpener(context, std::move(root)));
  TRY(opener->load_remaps());
  TRY(opener->set_root_task(::getpid()));
  return opener;
}

Result<> FilesOpener::set_root_task(pid_t pid) {
  root_task_ = TRY(sys::pidfd_open(pid));
  const Fd proc = TRY(sys::openat(AT_FDCWD, format("/proc/{}", pid), O_PATH | O_DIRECTORY));
  ids_ = TRY(UserMaps::of(proc.get()));
  return {};
}

Result<> FilesOpener::load_remaps() {
  if (!context_.in.exists(images::kRemapFilePath)) return {};
  images::Reader reader = TRY(context_.in.reader(images::kRemapFilePath));
  pb::remap_file_path_entry entry;
  // Images of old versions mark ghosts by a bit of the id instead of a type.
  constexpr std::uint32_t kOldGhostBit = 1u << 31;
  while (TRY(reader.next(entry))) {
    Remap remap{entry.has_remap_type() ? entry.remap_type() : pb::LINKED, entry.remap_id()};
    if (!entry.has_remap_type() && (remap.id & kOldGhostBit) != 0)
      remap = {pb::GHOST, remap.id & ~kOldGhostBit};
    // A remap of the reference engine stands for all files of its process.
    if (remap.type == pb::PROCFS) former_.note(TRY(path_entry(entry.orig_id()))->name(), static_cast<pid_t>(remap.id));
    else remaps_[entry.orig_id()] = remap;
  }
  return {};
}

std::optional<int> FilesOpener::inherited(std::string_view key) const {
  const auto& all = options().inherited;
  const auto found = std::ranges::find(all, key, &InheritedFd::key);
  if (found == all.end()) return std::nullopt;
  return found->fd;
}

Result<const pb::reg_file_entry*> FilesOpener::path_entry(std::uint32_t id) const {
  const auto found = context_.image.files.find(id);
  if (found == context_.image.files.end() || !found->second.has_reg())
    return fail(Error::corrupt(format("files.img has no path with id {}", id)));
  return &found->second.reg();
}

Result<Fd> FilesOpener::ghost(const pb::reg_file_entry& entry, std::uint32_t number) {
  auto found = ghosts_.find(number);
  if (found == ghosts_.end()) {
    Fd made = TRY(create_ghost(context_.in, number, root(), entry.name()));
    found = ghosts_.emplace(number, std::move(made)).first;
  }
  return sys::duplicate(found->second.get());
}

// Takes the lost name back for a moment, so that the file is seen under it.
Result<Fd> FilesOpener::locate_linked(const pb::reg_file_entry& entry, std::uint32_t link_id) {
  const pb::reg_file_entry& link = *TRY(path_entry(link_id));
  Fd linked = TRY(open_below(root(), link.name(), O_PATH | O_NOFOLLOW));
  TemporaryDirectories directories;
  const PathParts parts = TRY(split_path(entry.name()));
  const Fd parent = TRY(directories.make(root(), parts.directory));
  const PathParts from = TRY(split_path(link.name()));
  const Fd from_parent = TRY(open_below(root(), from.directory, O_PATH | O_DIRECTORY));
  auto named = sys::linkat(from_parent.get(), from.name, parent.get(), parts.name);
  if (!named && named.error().is_kernel(EEXIST)) return linked;  // taken meanwhile; only the name differs
  if (!named) return fail(std::move(named).error());
  const Defer unname([&] { (void)sys::unlinkat(parent.get(), parts.name); });
  return sys::openat(parent.get(), parts.name, O_PATH | O_NOFOLLOW);
}

Result<Fd> FilesOpener::external(const pb::reg_file_entry& entry) const {
  if (const auto given = inherited(entry.name())) return sys::duplicate(*given);
  return fail(Error::bad_option("it is external, and no descriptor is given for it")
                  .remedy(format("pass one: --inherit-fd fd[N]:{}", entry.name())));
}

Result<Fd> FilesOpener::locate(const pb::reg_file_entry& entry) {
  auto find = [&]() -> Result<Fd> {
    if (entry.ext()) return external(entry);
    TRY(former_.appear_for(entry.name(), root_task(), pid_lookup_));
    const auto remap = remaps_.find(entry.id());
    if (remap == remaps_.end()) {
      const std::uint64_t follow = S_ISLNK(entry.mode()) || is_path_itself(entry.flags()) ? O_NOFOLLOW : 0;
      return open_below(root(), entry.name(), O_PATH | follow);
    }
    switch (remap->second.type) {
      case pb::GHOST: return ghost(entry, remap->second.id);
      case pb::LINKED: return locate_linked(entry, remap->second.id);
      default:
        return fail(Error::corrupt(format("the way to find it, {}, is none that is known", remap->second.type)));
    }
  };
  const std::string object = format("file {}", entry.name());
  Fd found = TRY_OR(find(), std::move(e).object(object));
  const auto now = TRY_OR(sys::fstat(found.get()), std::move(e).object(object));
  TRY_OR(check_mode(entry, now.st_mode, options().skip_file_rwx_check), std::move(e).object(object));
  TRY_OR(check_content(entry, found.get(), now), std::move(e).object(object));
  return found;
}

Result<std::optional<Fd>> FilesOpener::locate_nameless(std::uint64_t inode, std::uint32_t device) {
  std::optional<Fd> found;
  for (const auto& [id, remap] : remaps_) {
    if (remap.type == pb::LINKED) {
      const pb::reg_file_entry& link = *TRY(path_entry(remap.id));
      Fd linked = TRY(open_below(root(), link.name(), O_PATH | O_NOFOLLOW));
      if (TRY(sys::fstat(linked.get())).st_ino == inode) found = std::move(linked);
    } else if (remap.type == pb::GHOST) {
      const GhostIdentity identity = TRY(identity_of_ghost(context_.in, remap.id));
      if (identity.inode != inode || (found && identity.device != device)) continue;
      found = TRY(ghost(*TRY(path_entry(id)), remap.id));
    }
  }
  return found;
}

Result<Fd> FilesOpener::open_path(const pb::reg_file_entry& entry, std::uint32_t flags) {
  Fd found = TRY(locate(entry));
  // It was opened so; through its own descriptor it could not be again.
  if (is_path_itself(flags) && is_path_itself(static_cast<std::uint32_t>(TRY(sys::fcntl(found.get(), F_GETFL))))) return found;
  return TRY_OR(reopen(found.get(), open_flags(flags)), std::move(e).object(format("file {}", entry.name())));
}

Result<> FilesOpener::set_owner_and_flags(int fd, const pb::fown_entry& owner, std::uint32_t flags) {
  if (flags & O_PATH) return {};
  TRY(set_owner(fd, owner, pid_lookup_));
  // After the owner: O_ASYNC takes effect at once.
  const int now = TRY(sys::fcntl(fd, F_GETFL));
  const int wanted = (now & ~kStatusFlags) | (static_cast<int>(flags) & kStatusFlags);
  if (wanted != now) TRY(sys::fcntl(fd, F_SETFL, wanted));
  return {};
}

void FilesOpener::remove_links() {
  for (const auto& [id, remap] : remaps_) {
    if (remap.type != pb::LINKED) continue;
    const auto link = path_entry(remap.id);
    if (!link) continue;
    const auto parts = split_path((*link)->name());
    if (!parts) continue;
    const auto parent = open_below(root(), parts->directory, O_PATH | O_DIRECTORY);
    if (parent) (void)sys::unlinkat(parent->get(), parts->name);  // best effort: a left-over name is harmless
  }
}

}  // namespace dormouse::engine
