#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/format.h"
#include "images/directory.h"
#include "images/writer_state.h"
#include "kernel/file.h"

namespace dormouse::images {

namespace {

void append_u32(std::string& buffer, std::uint32_t value) {
  const char bytes[4] = {static_cast<char>(value), static_cast<char>(value >> 8),
                         static_cast<char>(value >> 16), static_cast<char>(value >> 24)};
  buffer.append(bytes, sizeof bytes);
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace

Error write_failure(Error&& error, const std::string& name) {
  const char* remedy = "check the file system of the images directory";
  switch (error.err()) {
    case ENOSPC: remedy = "free space there or choose another images directory"; break;
    case EDQUOT: remedy = "raise the disk quota or choose another images directory"; break;
    case EFBIG: remedy = "raise the file size limit (RLIMIT_FSIZE)"; break;
    case EROFS: remedy = "choose an images directory that is writable"; break;
    case EACCES:
    case EPERM: remedy = "make the images directory writable for this user"; break;
    case ELOOP: remedy = "remove the symbolic link, images are plain files"; break;
    default: break;
  }
  return std::move(error).object(name).remedy(remedy);
}

Result<Fd> create_file(int directory, const std::string& name) {
  return TRY_OR(sys::openat(directory, name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK, 0644),
                write_failure(std::move(e), name));
}

void Writer::State::begin(const ImageType& type) {
  if (type.preamble == Preamble::kCommon) append_u32(buffer, kCommonMagic);
  if (type.preamble == Preamble::kService) append_u32(buffer, kServiceMagic);
  if (type.preamble != Preamble::kNone) append_u32(buffer, type.magic);
  preamble_bytes = buffer.size();
}

Result<> Writer::State::append(const google::protobuf::MessageLite& record) {
  // Asked first, since the library would print to stderr (and abort in debug builds).
  if (!record.IsInitialized())
    return fail(Error::unsupported(format("a {} lacks a required member", record.GetTypeName())).object(name));
  const std::size_t size = record.ByteSizeLong();
  if (size > kMaxRecordBytes)
    return fail(Error::unsupported(format("a {} of {} bytes is longer than the format's readers accept",
                                          record.GetTypeName(), size))
                    .object(name));
  if (buffer.size() + size > kWriteBufferBytes) TRY(flush());
  append_u32(buffer, static_cast<std::uint32_t>(size));
  const std::size_t at = buffer.size();
  buffer.resize(at + size);
  record.SerializeWithCachedSizesToArray(reinterpret_cast<std::uint8_t*>(buffer.data() + at));
  return {};
}

Result<> Writer::State::flush() {
  if (buffer.empty()) return {};
  TRY(write(bytes_of(buffer)));
  buffer.clear();
  return {};
}

Result<> Writer::State::write(std::span<const std::byte> bytes) {
  if (!fd) fd = TRY(create_file(directory, name));
  TRY_OR(sys::write_all(fd.get(), bytes), write_failure(std::move(e), name));
  checksum.add(bytes);
  written_bytes += bytes.size();
  return {};
}

Result<> Writer::State::finish() {
  if (written_bytes != 0 || buffer.size() > preamble_bytes) {
    TRY(flush());
    // Network file systems may report only here that they ran out of space.
    if (::close(fd.release()) == -1 && errno != EINTR)
      return fail(write_failure(Error::kernel("close", errno), name));
  }
  if (!ledger) return {};
  const std::scoped_lock lock(ledger->mutex);
  if (written_bytes != 0) ledger->manifest.files[name] = {written_bytes, checksum.value()};
  ledger->unfinished.erase(name);
  return {};
}

Writer::Writer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Writer::Writer(Writer&&) noexcept = default;
Writer& Writer::operator=(Writer&&) noexcept = default;
Writer::~Writer() = default;

Result<> Writer::append(const google::protobuf::MessageLite& record) { return state_->append(record); }

Result<> Writer::append_bytes(std::span<const std::byte> bytes) {
  if (state_->buffer.size() + bytes.size() > kWriteBufferBytes) {
    TRY(state_->flush());
    if (bytes.size() > kWriteBufferBytes / 2) return state_->write(bytes);
  }
  state_->buffer.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return {};
}

Result<> Writer::finish() { return state_->finish(); }

Result<> write_unlisted(int directory, const ImageType& type,
                        const google::protobuf::MessageLite& record) {
  Writer::State state;
  state.directory = directory;
  state.name = file_name(type);
  state.begin(type);
  TRY(state.append(record));
  return state.finish();
}

}  // namespace dormouse::images
