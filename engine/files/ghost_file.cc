#include "engine/files/ghost_file.h"

#include <fcntl.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "base/defer.h"
#include "base/format.h"
#include "engine/files/open_file.h"
#include "engine/files/paths.h"
#include "images/schema/files.pb.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

// From this size on, data is saved in chunks, and holes stay holes.
constexpr std::uint64_t kChunkedFrom = 3 * 4096;
constexpr std::size_t kCopyBytes = 256 << 10;
constexpr mode_t kPermissions = 07777;

// --- saving -------------------------------------------------------------------------------------

Result<> copy_to_image(int fd, std::uint64_t offset, std::uint64_t length, images::Writer& writer) {
  std::vector<std::byte> buffer(std::min<std::uint64_t>(length, kCopyBytes));
  while (length > 0) {
    const auto piece = std::span(buffer).first(std::min<std::uint64_t>(length, buffer.size()));
    TRY(sys::pread_exactly(fd, piece, offset));
    TRY(writer.append_bytes(piece));
    offset += piece.size();
    length -= piece.size();
  }
  return {};
}

// Where data goes on from `offset`; nothing if only a hole follows.
Result<std::optional<std::uint64_t>> next_data(int fd, std::uint64_t offset) {
  auto at = sys::lseek(fd, static_cast<std::int64_t>(offset), SEEK_DATA);
  if (at) return *at;
  if (at.error().is_kernel(ENXIO)) return std::nullopt;
  return fail(std::move(at).error());
}

Result<> save_chunks(int fd, std::uint64_t size, images::Writer& writer) {
  std::uint64_t offset = 0;
  while (offset < size) {
    const auto data = TRY(next_data(fd, offset));
    if (!data || *data >= size) break;
    const std::uint64_t hole = TRY(sys::lseek(fd, static_cast<std::int64_t>(*data), SEEK_HOLE));
    pb::ghost_chunk_entry chunk;
    chunk.set_off(*data);
    chunk.set_len(std::min(hole, size) - *data);
    TRY(writer.append(chunk));
    TRY(copy_to_image(fd, chunk.off(), chunk.len(), writer));
    offset = hole;
  }
  return {};
}

void fill_time(const timespec& from, pb::timeval* to) {
  to->set_tv_sec(static_cast<std::uint64_t>(from.tv_sec));
  to->set_tv_usec(static_cast<std::uint64_t>(from.tv_nsec / 1000));
}

pb::ghost_file_entry describe(const OpenFile& file) {
  const struct stat& st = file.stat;
  pb::ghost_file_entry entry;
  entry.set_uid(st.st_uid);
  entry.set_gid(st.st_gid);
  entry.set_mode(st.st_mode);
  entry.set_dev(static_cast<std::uint32_t>(major(st.st_dev) << 20 | minor(st.st_dev)));
  entry.set_ino(st.st_ino);
  fill_time(st.st_atim, entry.mutable_atim());
  fill_time(st.st_mtim, entry.mutable_mtim());
  if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) entry.set_rdev(static_cast<std::uint32_t>(st.st_rdev));
  if (S_ISREG(st.st_mode) && static_cast<std::uint64_t>(st.st_size) >= kChunkedFrom) {
    entry.set_chunks(true);
    entry.set_size(static_cast<std::uint64_t>(st.st_size));
  }
  return entry;
}

// --- restoring ----------------------------------------------------------------------------------

Result<> fill_in_chunks(images::Reader& reader, const pb::ghost_file_entry& entry, int fd) {
  TRY(sys::ftruncate(fd, entry.size()));
  pb::ghost_chunk_entry chunk;
  while (TRY(reader.next(chunk))) {
    if (chunk.off() > entry.size() || chunk.len() > entry.size() - chunk.off())
      return fail(reader.corrupt(format("a piece of {} bytes at {} does not fit into a file of {} bytes",
                                        chunk.len(), chunk.off(), entry.size())));
    TRY(sys::lseek(fd, static_cast<std::int64_t>(chunk.off()), SEEK_SET));
    TRY(reader.copy_bytes(chunk.len(), fd));
  }
  return {};
}

// Creates what the record describes under `name`; EEXIST if that is taken.
Result<> create_node(images::Reader& reader, const pb::ghost_file_entry& entry, int parent,
                     const std::string& name) {
  const mode_t permissions = entry.mode() & kPermissions;
  switch (entry.mode() & S_IFMT) {
    case S_IFREG: {
      const Fd file = TRY(sys::openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
      auto filled = entry.chunks() ? fill_in_chunks(reader, entry, file.get()) : reader.copy_bytes(reader.remaining(), file.get());
      if (!filled) (void)sys::unlinkat(parent, name);  // the failure to tell is the other one
      return filled;
    }
    case S_IFDIR: return sys::mkdirat(parent, name, permissions);
    case S_IFLNK: return sys::symlinkat(entry.symlnk_target(), parent, name);
    case S_IFIFO:
    case S_IFCHR:
    case S_IFBLK: return sys::mknodat(parent, name, entry.mode(), entry.rdev());
    default: return fail(reader.corrupt(format("mode {:o} is no kind of file", entry.mode())));
  }
}

Result<> apply_attributes(const pb::ghost_file_entry& entry, int parent, const std::string& name) {
  TRY(sys::fchownat(parent, name, entry.uid(), entry.gid(), AT_SYMLINK_NOFOLLOW));
  // After chown(), which clears the set-user-id bits.
  if (!S_ISLNK(entry.mode())) TRY(sys::fchmodat(parent, name, entry.mode() & kPermissions));
  if (!entry.has_atim() || !entry.has_mtim()) return {};
  const timespec times[2] = {
      {static_cast<time_t>(entry.atim().tv_sec()), static_cast<long>(entry.atim().tv_usec()) * 1000},
      {static_cast<time_t>(entry.mtim().tv_sec()), static_cast<long>(entry.mtim().tv_usec()) * 1000}};
  return sys::utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW);
}

}  // namespace

Result<> save_ghost(const OpenFile& file, std::uint32_t number, images::OutputDirectory& out) {
  pb::ghost_file_entry entry = describe(file);
  if (S_ISLNK(file.stat.st_mode)) entry.set_symlnk_target(TRY(sys::readlinkat(file.fd.get(), "")));
  images::Writer writer = TRY(out.create(images::kGhostFile, number));
  TRY(writer.append(entry));
  if (S_ISREG(file.stat.st_mode)) {
    // Opened again, since the task's descriptor may be write-only, and its position is not to move.
    const Fd content = TRY(sys::openat(AT_FDCWD, format("/proc/self/fd/{}", file.fd.get()), O_RDONLY));
    const auto size = static_cast<std::uint64_t>(file.stat.st_size);
    if (entry.chunks())
      TRY(save_chunks(content.get(), size, writer));
    else
      TRY(copy_to_image(content.get(), 0, size, writer));
  }
  return writer.finish();
}

Result<GhostIdentity> identity_of_ghost(const images::InputDirectory& in, std::uint32_t number) {
  images::Reader reader = TRY(in.reader(images::kGhostFile, number));
  pb::ghost_file_entry entry;
  if (!TRY(reader.next(entry))) return fail(reader.corrupt("the file is empty"));
  return GhostIdentity{entry.dev(), entry.ino()};
}

Result<Fd> create_ghost(const images::InputDirectory& in, std::uint32_t number, int root,
                        const std::string& path) {
  images::Reader reader = TRY(in.reader(images::kGhostFile, number));
  pb::ghost_file_entry entry;
  if (!TRY(reader.next(entry))) return fail(reader.corrupt("the file is empty"));

  TemporaryDirectories directories;
  const PathParts parts = TRY(split_path(path));
  const Fd parent = TRY(directories.make(root, parts.directory));
  std::string name = parts.name;
  auto created = create_node(reader, entry, parent.get(), name);
  if (!created && created.error().is_kernel(EEXIST)) {
    name += format(".ghost.{}", number);
    created = create_node(reader, entry, parent.get(), name);
  }
  if (!created) return fail(std::move(created).error());
  const Defer remove([&] {
    (void)sys::unlinkat(parent.get(), name, S_ISDIR(entry.mode()) ? AT_REMOVEDIR : 0);
  });
  TRY(apply_attributes(entry, parent.get(), name));
  return sys::openat(parent.get(), name, O_PATH | O_NOFOLLOW);
}

}  // namespace dormouse::engine
