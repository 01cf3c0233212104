#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "base/format.h"
#include "images/directory.h"
#include "images/reader_state.h"
#include "kernel/file.h"

namespace dormouse::images {

namespace {
// Most images are smaller than this and are read by one call.
constexpr std::size_t kReadAheadBytes = 64u << 10;
}  // namespace

Result<OpenedFile> open_file(int directory, const std::string& name) {
  Result<Fd> opened = sys::openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!opened) {
    Error error = std::move(opened).error();
    if (error.is_kernel(ENOENT))
      return fail(Error::corrupt("the file is missing").object(name).remedy("the checkpoint is incomplete; copy it again from its source"));
    if (error.is_kernel(ELOOP))
      return fail(Error::corrupt("is a symbolic link, images are plain files").object(name));
    return fail(std::move(error).object(name));
  }
  OpenedFile file{.fd = *std::move(opened)};
  const auto stat = TRY_OR(sys::fstat(file.fd.get()), std::move(e).object(name));
  if (!S_ISREG(stat.st_mode)) return fail(Error::corrupt("is not a plain file").object(name));
  file.size_bytes = static_cast<std::uint64_t>(stat.st_size);
  return file;
}

Error Reader::State::corrupt(std::uint64_t at, std::string_view reason) const {
  return Error::corrupt(format("at byte {}: {}", at, reason))
      .object(name)
      .remedy("the file is damaged; copy the checkpoint again from its source");
}

Result<Reader> Reader::State::open(int directory, const ImageType& type, std::string name) {
  auto state = std::make_unique<State>();
  state->file = TRY(open_file(directory, name));
  state->name = std::move(name);
  TRY(state->check_preamble(type));
  return Reader(std::move(state));
}

Result<std::string_view> Reader::State::take(std::size_t bytes) {
  const std::uint64_t window_end = window_at + window.size();
  if (offset < window_at || offset + bytes > window_end) {
    const std::uint64_t want = std::min<std::uint64_t>(std::max(bytes, kReadAheadBytes), remaining());
    window.resize(want);
    window_at = offset;
    const Result<> filled =
        sys::pread_exactly(file.fd.get(), std::as_writable_bytes(std::span(window)), window_at);
    if (!filled) {
      window.clear();
      if (filled.error().is_kernel(ENODATA)) return fail(corrupt(offset, "the file became shorter while it was read"));
      return fail(Error(filled.error()).object(name));
    }
  }
  const std::string_view taken = std::string_view(window).substr(offset - window_at, bytes);
  offset += bytes;
  return taken;
}

Result<std::uint32_t> Reader::State::take_u32() {
  const std::uint64_t at = offset;
  if (remaining() < 4)
    return fail(corrupt(at, format("the file ends in the middle of a number ({} of 4 bytes)", remaining())));
  const std::string_view b = TRY(take(4));
  const auto byte = [&](int i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(b[i])); };
  return byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24;
}

Result<> Reader::State::check_preamble(const ImageType& type) {
  const auto expect = [&](std::uint32_t magic) -> Result<> {
    const std::uint64_t at = offset;
    const std::uint32_t found = TRY(take_u32());
    if (found != magic)
      return fail(corrupt(at, format("magic number {:#x} instead of {:#x}: not a file of this kind", found, magic)));
    return {};
  };
  if (type.preamble == Preamble::kCommon) TRY(expect(kCommonMagic));
  if (type.preamble == Preamble::kService) TRY(expect(kServiceMagic));
  if (type.preamble != Preamble::kNone) TRY(expect(type.magic));
  return {};
}

Reader::Reader(std::unique_ptr<State> state) : state_(std::move(state)) {}
Reader::Reader(Reader&&) noexcept = default;
Reader& Reader::operator=(Reader&&) noexcept = default;
Reader::~Reader() = default;

const std::string& Reader::name() const { return state_->name; }
std::uint64_t Reader::offset() const { return state_->offset; }
std::uint64_t Reader::remaining() const { return state_->remaining(); }
Error Reader::corrupt(std::string_view reason) const { return state_->corrupt(state_->offset, reason); }

Result<bool> Reader::next(google::protobuf::MessageLite& record) {
  if (state_->remaining() == 0) return false;
  const std::uint64_t at = state_->offset;
  const std::uint32_t size = TRY(state_->take_u32());
  if (size > kMaxRecordBytes)
    return fail(state_->corrupt(at, format("a record of {} bytes is beyond the limit of {}", size, kMaxRecordBytes)));
  if (size > state_->remaining())
    return fail(state_->corrupt(at, format("a record of {} bytes, but only {} are left in the file", size,
                                           state_->remaining())));
  const std::string_view bytes = TRY(state_->take(size));
  // "Partial", since the library would print a missing member to stderr.
  if (!record.ParsePartialFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return fail(state_->corrupt(at, format("the record is not a {}", record.GetTypeName())));
  if (!record.IsInitialized())
    return fail(state_->corrupt(at, format("the {} lacks a required member", record.GetTypeName())));
  return true;
}

Result<std::vector<std::byte>> Reader::read_bytes(std::size_t bytes) {
  if (bytes > remaining())
    return fail(corrupt(format("{} bytes of content, but only {} are left in the file", bytes, remaining())));
  std::vector<std::byte> content(bytes);
  for (std::size_t done = 0; done < bytes;) {
    const std::string_view piece = TRY(state_->take(std::min(bytes - done, kReadAheadBytes)));
    std::ranges::copy(std::as_bytes(std::span(piece)), content.begin() + static_cast<std::ptrdiff_t>(done));
    done += piece.size();
  }
  return content;
}

Result<> Reader::copy_bytes(std::uint64_t bytes, int to) {
  if (bytes > remaining())
    return fail(corrupt(format("{} bytes of content, but only {} are left in the file", bytes, remaining())));
  while (bytes > 0) {
    const std::string_view piece = TRY(state_->take(std::min<std::uint64_t>(bytes, kReadAheadBytes)));
    TRY_OR(sys::write_all(to, piece), std::move(e).during(format("copying content of {}", name())));
    bytes -= piece.size();
  }
  return {};
}

Result<> Reader::skip_bytes(std::uint64_t bytes) {
  if (bytes > remaining())
    return fail(corrupt(format("{} bytes of content, but only {} are left in the file", bytes, remaining())));
  state_->offset += bytes;
  return {};
}

Result<Reader> open_unlisted(int directory, const ImageType& type) {
  return Reader::State::open(directory, type, file_name(type));
}

}  // namespace dormouse::images
