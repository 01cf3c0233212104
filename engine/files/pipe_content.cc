#include "engine/files/pipe_content.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <limits>

#include "base/format.h"
#include "engine/files/open_file.h"
#include "images/schema/pipes.pb.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

// All that the pipe holds, which stays in it: tee(2) duplicates the buffers by reference.
Result<std::vector<std::byte>> copy_content(int fd, std::uint32_t capacity_bytes) {
  int held = 0;
  TRY(sys::ioctl(fd, FIONREAD, &held));
  std::vector<std::byte> bytes(static_cast<std::size_t>(held));
  if (bytes.empty()) return bytes;
  const sys::Pipe copy = TRY(sys::pipe2(O_NONBLOCK));
  // As many slots as the original, since tee() fills one for each of its buffers. Above the limit for
  // users this needs CAP_SYS_RESOURCE; whether it was enough shows below.
  (void)sys::fcntl(copy.write_end.get(), F_SETPIPE_SZ, static_cast<long>(capacity_bytes));
  const std::size_t copied = TRY(sys::tee(fd, copy.write_end.get(), capacity_bytes, SPLICE_F_NONBLOCK));
  if (copied != bytes.size())
    return fail(Error::unsupported(format("only {} of its {} bytes could be copied", copied, held))
                    .remedy("raise /proc/sys/fs/pipe-max-size to the pipe's size"));
  TRY(sys::read_exactly(copy.read_end.get(), bytes));
  return bytes;
}

}  // namespace

Result<> PipeContentSaver::save(const OpenFile& file, std::uint32_t pipe_id, images::OutputDirectory& out) {
  if (file.access_mode() == O_WRONLY || !saved_.insert(pipe_id).second) return {};
  const auto capacity = static_cast<std::uint32_t>(TRY(sys::fcntl(file.fd.get(), F_GETPIPE_SZ)));
  const auto bytes = TRY(copy_content(file.fd.get(), capacity));
  if (!writer_) writer_ = TRY(out.create(type_));
  pb::pipe_data_entry entry;
  entry.set_pipe_id(pipe_id);
  entry.set_bytes(static_cast<std::uint32_t>(bytes.size()));
  entry.set_size(capacity);
  TRY(writer_->append(entry));
  return writer_->append_bytes(bytes);
}

Result<> PipeContentSaver::finish() {
  if (!writer_) return {};
  return writer_->finish();
}

Result<PipeContents> PipeContents::load(const images::InputDirectory& in, images::ImageType type) {
  PipeContents contents;
  if (!in.exists(type)) return contents;
  images::Reader reader = TRY(in.reader(type));
  pb::pipe_data_entry entry;
  while (TRY(reader.next(entry))) {
    Content content;
    if (entry.has_size()) content.capacity_bytes = entry.size();
    content.bytes = TRY(reader.read_bytes(entry.bytes()));
    if (!contents.contents_.emplace(entry.pipe_id(), std::move(content)).second)
      return fail(Error::corrupt(format("{} holds pipe {} twice", reader.name(), entry.pipe_id())));
  }
  return contents;
}

const PipeContents::Content* PipeContents::of(std::uint32_t pipe_id) const {
  const auto found = contents_.find(pipe_id);
  return found == contents_.end() ? nullptr : &found->second;
}

Result<> fill_pipe(int fd, const PipeContents::Content& content) {
  if (content.capacity_bytes) {
    if (*content.capacity_bytes > std::numeric_limits<int>::max())
      return fail(Error::corrupt(format("a pipe of {} bytes", *content.capacity_bytes)));
    if (static_cast<std::uint32_t>(TRY(sys::fcntl(fd, F_GETPIPE_SZ))) != *content.capacity_bytes)
      TRY(sys::fcntl(fd, F_SETPIPE_SZ, static_cast<long>(*content.capacity_bytes)));
  }
  // More than fits would block for ever, as there is no reader yet.
  if (content.bytes.size() > static_cast<std::uint32_t>(TRY(sys::fcntl(fd, F_GETPIPE_SZ))))
    return fail(Error::corrupt(format("{} bytes do not fit into the pipe", content.bytes.size())));
  return sys::write_all(fd, content.bytes);
}

}  // namespace dormouse::engine
