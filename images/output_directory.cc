#include <fcntl.h>

#include <cerrno>

#include "base/format.h"
#include "base/version.h"
#include "images/directory.h"
#include "images/writer_state.h"
#include "kernel/file.h"

namespace dormouse::images {

namespace {

constexpr const char* kNewManifestName = "dormouse.json.new";

Result<> remove_if_there(int directory, const std::string& name) {
  const Result<> removed = sys::unlinkat(directory, name);
  if (!removed && !removed.error().is_kernel(ENOENT))
    return fail(write_failure(Error(removed.error()), name));
  return {};
}

// The data must be on disk before the name that vouches for it.
Result<> sync_file(int directory, const std::string& name) {
  const Fd fd = TRY_OR(sys::openat(directory, name, O_RDONLY | O_NOFOLLOW), std::move(e).object(name));
  return TRY_OR(sys::fsync(fd.get()), write_failure(std::move(e), name)), Result<>{};
}

}  // namespace

Result<> write_manifest(int directory, const Manifest& manifest, bool sync) {
  const Fd fd = TRY(create_file(directory, kNewManifestName));
  TRY_OR(sys::write_all(fd.get(), manifest_text(manifest)),
         write_failure(std::move(e), kNewManifestName));
  if (sync) TRY_OR(sys::fsync(fd.get()), write_failure(std::move(e), kNewManifestName));
  TRY_OR(sys::renameat(directory, kNewManifestName, directory, kManifestName),
         write_failure(std::move(e), kManifestName));
  return {};
}

OutputDirectory::OutputDirectory(std::unique_ptr<State> state) : state_(std::move(state)) {}
OutputDirectory::OutputDirectory(OutputDirectory&&) noexcept = default;
OutputDirectory& OutputDirectory::operator=(OutputDirectory&&) noexcept = default;
OutputDirectory::~OutputDirectory() = default;

Result<OutputDirectory> OutputDirectory::open(int directory) {
  TRY(remove_if_there(directory, kManifestName));
  TRY(remove_if_there(directory, file_name(kInventory)));
  auto state = std::make_unique<State>();
  state->directory = directory;
  state->ledger.manifest.engine_version = kVersion;
  return OutputDirectory(std::move(state));
}

Result<Writer> OutputDirectory::create(const ImageType& type, std::optional<std::uint64_t> number) {
  auto writer = std::make_unique<Writer::State>();
  writer->directory = state_->directory;
  writer->name = file_name(type, number);
  writer->ledger = &state_->ledger;
  {
    const std::scoped_lock lock(state_->ledger.mutex);
    state_->ledger.created.insert(writer->name);
    state_->ledger.unfinished.insert(writer->name);
  }
  writer->begin(type);
  return Writer(std::move(writer));
}

Result<> OutputDirectory::write(const ImageType& type, std::optional<std::uint64_t> number,
                                const google::protobuf::MessageLite& record) {
  Writer writer = TRY(create(type, number));
  TRY(writer.append(record));
  return writer.finish();
}

Result<PageFile> OutputDirectory::create_pages(std::uint64_t number) {
  PageFile file{.name = file_name(kPages, number), .fd = {}};
  {
    const std::scoped_lock lock(state_->ledger.mutex);
    state_->ledger.created.insert(file.name);
  }
  file.fd = TRY(create_file(state_->directory, file.name));
  const std::scoped_lock lock(state_->ledger.mutex);
  state_->ledger.unfinished.insert(file.name);
  return file;
}

Result<> OutputDirectory::link_parent(const std::string& path) {
  // What an older dump left here would otherwise be taken for this one's parent.
  TRY(remove_if_there(state_->directory, kParentLink));
  state_->ledger.created.insert(kParentLink);
  return TRY_OR(sys::symlinkat(path, state_->directory, kParentLink), write_failure(std::move(e), kParentLink)), Result<>{};
}

Result<> OutputDirectory::finish_pages(const PageFile& file, std::uint64_t size_bytes,
                                       std::vector<std::uint64_t> chunk_checksums) {
  if (!chunk_checksums.empty() && chunk_checksums.size() != chunk_count(size_bytes))
    return fail(Error::corrupt(format("{} chunk checksums for {} bytes", chunk_checksums.size(), size_bytes))
                    .object(file.name));
  // What the tasks wrote is not counted by us: ask the kernel whether it is all there.
  const auto stat = TRY_OR(sys::fstat(file.fd.get()), std::move(e).object(file.name));
  if (static_cast<std::uint64_t>(stat.st_size) != size_bytes)
    return fail(Error::corrupt(format("{} bytes were written, {} were meant to be", stat.st_size, size_bytes))
                    .object(file.name));
  const std::scoped_lock lock(state_->ledger.mutex);
  state_->ledger.manifest.page_files[file.name] = {size_bytes, std::move(chunk_checksums)};
  state_->ledger.unfinished.erase(file.name);
  return {};
}

Result<> OutputDirectory::seal(const ManifestInfo& info, bool sync) {
  Ledger& ledger = state_->ledger;
  if (!ledger.unfinished.empty())
    return fail(Error::corrupt("cannot seal: the file was not finished").object(*ledger.unfinished.begin()));
  ledger.manifest.info = info;
  ledger.created.insert(kNewManifestName);
  if (sync) {
    for (const auto& [name, file] : ledger.manifest.files) TRY(sync_file(state_->directory, name));
    for (const auto& [name, file] : ledger.manifest.page_files) TRY(sync_file(state_->directory, name));
  }
  TRY(write_manifest(state_->directory, ledger.manifest, sync));
  ledger.created.insert(kManifestName);
  if (sync) TRY_OR(sys::fsync(state_->directory), write_failure(std::move(e), kManifestName));
  return {};
}

void OutputDirectory::discard() noexcept {
  // The manifest first: without it and the inventory the rest is no checkpoint.
  (void)sys::unlinkat(state_->directory, kManifestName);
  (void)sys::unlinkat(state_->directory, file_name(kInventory));
  for (const std::string& name : state_->ledger.created) (void)sys::unlinkat(state_->directory, name);
  state_->ledger.manifest = {};
  state_->ledger.created.clear();
  state_->ledger.unfinished.clear();
}

}  // namespace dormouse::images
