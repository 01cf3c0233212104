#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/format.h"
#include "base/parallel.h"
#include "images/catalogue.h"
#include "images/checksum.h"
#include "images/directory.h"
#include "images/manifest.h"
#include "images/reader_state.h"
#include "kernel/file.h"

namespace dormouse::images {

struct InputDirectory::State {
  int directory = -1;
  std::optional<Manifest> manifest;
};

namespace {

constexpr const char* kFreshCopy = "copy the checkpoint again from its source";

}  // namespace

Result<std::optional<Manifest>> read_manifest(int directory) {
  const Result<> there = sys::faccessat(directory, kManifestName, F_OK, AT_SYMLINK_NOFOLLOW);
  if (!there && there.error().is_kernel(ENOENT)) return std::nullopt;
  const OpenedFile file = TRY(open_file(directory, kManifestName));
  if (file.size_bytes > kMaxManifestBytes)
    return fail(Error::corrupt(format("{} bytes are beyond the limit of {}", file.size_bytes, kMaxManifestBytes))
                    .object(kManifestName));
  std::string text(file.size_bytes, '\0');
  TRY_OR(sys::pread_exactly(file.fd.get(), std::as_writable_bytes(std::span(text)), 0),
         std::move(e).object(kManifestName));
  return TRY(parse_manifest(text));
}

namespace {

// Opens a listed file and compares its size, which finds most damage without reading a byte.
Result<OpenedFile> open_listed(int directory, const std::string& name, std::uint64_t size_bytes) {
  OpenedFile file = TRY(open_file(directory, name));
  if (file.size_bytes != size_bytes)
    return fail(Error::corrupt(format("has {} bytes, the manifest says {}", file.size_bytes, size_bytes))
                    .object(name)
                    .remedy(kFreshCopy));
  return file;
}

// Calls consume(bytes, offset) for the whole file in pieces of kPageChunkBytes.
template <class Consume>
Result<> for_each_chunk(const OpenedFile& file, const std::string& name, Consume&& consume) {
  std::vector<std::byte> buffer(std::min<std::uint64_t>(file.size_bytes, kPageChunkBytes));
  for (std::uint64_t at = 0; at < file.size_bytes; at += buffer.size()) {
    const auto chunk = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), file.size_bytes - at));
    TRY_OR(sys::pread_exactly(file.fd.get(), chunk, at), std::move(e).object(name));
    TRY(consume(std::span<const std::byte>(chunk), at));
  }
  return {};
}

Result<> verify_file(int directory, const std::string& name, const Manifest::File& listed) {
  const OpenedFile file = TRY(open_listed(directory, name, listed.size_bytes));
  RunningChecksum sum;
  TRY(for_each_chunk(file, name, [&](std::span<const std::byte> bytes, std::uint64_t) -> Result<> {
    sum.add(bytes);
    return {};
  }));
  if (sum.value() != listed.checksum)
    return fail(Error::corrupt("the content does not match the manifest's checksum").object(name).remedy(kFreshCopy));
  return {};
}

Result<> verify_chunks(int directory, const std::string& name, const Manifest::Pages& listed) {
  const OpenedFile file = TRY(open_listed(directory, name, listed.size_bytes));
  if (listed.chunk_checksums.empty()) return {};
  return for_each_chunk(file, name, [&](std::span<const std::byte> bytes, std::uint64_t at) -> Result<> {
    if (checksum(bytes) == listed.chunk_checksums[at / kPageChunkBytes]) return {};
    return fail(Error::corrupt(format("bytes {} to {} do not match the manifest's checksum", at, at + bytes.size()))
                    .object(name)
                    .remedy(kFreshCopy));
  });
}

}  // namespace

InputDirectory::InputDirectory(std::unique_ptr<State> state) : state_(std::move(state)) {}
InputDirectory::InputDirectory(InputDirectory&&) noexcept = default;
InputDirectory& InputDirectory::operator=(InputDirectory&&) noexcept = default;
InputDirectory::~InputDirectory() = default;

Result<InputDirectory> InputDirectory::open(int directory) {
  auto state = std::make_unique<State>();
  state->directory = directory;
  state->manifest = TRY(read_manifest(directory));
  return InputDirectory(std::move(state));
}

bool InputDirectory::has_manifest() const { return state_->manifest.has_value(); }

const ManifestInfo* InputDirectory::info() const {
  return state_->manifest ? &state_->manifest->info : nullptr;
}

std::string_view InputDirectory::engine_version() const {
  return state_->manifest ? std::string_view(state_->manifest->engine_version) : std::string_view();
}

Result<> InputDirectory::verify() const {
  if (!state_->manifest) return {};
  std::vector<const std::pair<const std::string, Manifest::File>*> files;
  for (const auto& file : state_->manifest->files) files.push_back(&file);
  TRY(in_parallel(files.size(), [&](std::size_t i) { return verify_file(state_->directory, files[i]->first, files[i]->second); }));
  for (const auto& [name, file] : state_->manifest->page_files)
    TRY(open_listed(state_->directory, name, file.size_bytes));
  return {};
}

Result<> InputDirectory::verify_pages() const {
  if (!state_->manifest) return {};
  for (const auto& [name, file] : state_->manifest->page_files)
    TRY(verify_chunks(state_->directory, name, file));
  return {};
}

bool InputDirectory::exists(const ImageType& type, std::optional<std::uint64_t> number) const {
  const std::string name = file_name(type, number);
  if (state_->manifest) return state_->manifest->files.contains(name) || state_->manifest->page_files.contains(name);
  return sys::faccessat(state_->directory, name, F_OK, AT_SYMLINK_NOFOLLOW).has_value();
}

Result<Reader> InputDirectory::reader(const ImageType& type, std::optional<std::uint64_t> number) const {
  std::string name = file_name(type, number);
  if (state_->manifest && !exists(type, number))
    return fail(Error::corrupt("the file is not listed in the manifest").object(std::move(name)));
  return Reader::State::open(state_->directory, type, std::move(name));
}

Result<> InputDirectory::read(const ImageType& type, std::optional<std::uint64_t> number,
                              google::protobuf::MessageLite& record) const {
  Reader file = TRY(reader(type, number));
  if (!TRY(file.next(record))) return fail(file.corrupt("the file has no record"));
  if (file.remaining() != 0) return fail(file.corrupt(format("{} bytes behind the only record", file.remaining())));
  return {};
}

Result<std::map<std::string, std::uint64_t>> InputDirectory::list() const {
  std::map<std::string, std::uint64_t> sizes;
  if (state_->manifest) {
    for (const auto& [name, file] : state_->manifest->files) sizes[name] = file.size_bytes;
    for (const auto& [name, file] : state_->manifest->page_files) sizes[name] = file.size_bytes;
    return sizes;
  }
  for (const auto all = TRY(sys::list_directory(state_->directory, ".")); const auto& entry : all) {
    const auto found = find_kind(entry.name);
    if (!found || found->kind->type->preamble == Preamble::kService) continue;
    const auto stat = TRY_OR(sys::fstatat(state_->directory, entry.name, AT_SYMLINK_NOFOLLOW),
                             std::move(e).object(entry.name));
    if (S_ISREG(stat.st_mode)) sizes[entry.name] = static_cast<std::uint64_t>(stat.st_size);
  }
  return sizes;
}

Result<Fd> InputDirectory::open_raw(const ImageType& type, std::uint64_t number) const {
  const std::string name = file_name(type, number);
  if (state_->manifest && !exists(type, number))
    return fail(Error::corrupt("the file is not listed in the manifest").object(name));
  return std::move(TRY(open_file(state_->directory, name)).fd);
}

Result<Fd> InputDirectory::open_parent() const {
  auto parent = sys::openat(state_->directory, kParentLink, O_RDONLY | O_DIRECTORY);
  if (parent) return parent;
  const bool no_link = parent.error().is_kernel(ENOENT) &&
                       !sys::faccessat(state_->directory, kParentLink, F_OK, AT_SYMLINK_NOFOLLOW);
  if (no_link) return Fd();
  return fail(std::move(parent).error().object("parent")
                  .remedy("the directories of a chain of checkpoints must stay where they are to each other"));
}

std::span<const std::uint64_t> InputDirectory::page_chunk_checksums(std::uint64_t pages_number) const {
  if (!state_->manifest) return {};
  const auto found = state_->manifest->page_files.find(file_name(kPages, pages_number));
  if (found == state_->manifest->page_files.end()) return {};
  return found->second.chunk_checksums;
}

}  // namespace dormouse::images
