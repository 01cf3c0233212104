#include "images/recode.h"

#include <algorithm>

#include "base/format.h"
#include "images/catalogue.h"
#include "images/checksum.h"
#include "kernel/file.h"

namespace dormouse::images {

namespace {

class Copier final : public RecordVisitor {
 public:
  explicit Copier(Writer writer) : writer_(std::move(writer)) {}

  Result<> record(const google::protobuf::MessageLite& record) override { return writer_.append(record); }
  Result<> payload(Reader& reader, std::uint64_t bytes) override {
    while (bytes > 0) {
      const auto piece = TRY(reader.read_bytes(std::min<std::uint64_t>(bytes, kPageChunkBytes)));
      TRY(writer_.append_bytes(piece));
      bytes -= piece.size();
    }
    return {};
  }
  Result<> finish() { return writer_.finish(); }

 private:
  Writer writer_;
};

Result<> copy_pages(Reader& reader, std::uint64_t number, OutputDirectory& to) {
  const PageFile file = TRY(to.create_pages(number));
  const std::uint64_t size = reader.remaining();
  std::vector<std::uint64_t> checksums;
  while (reader.remaining() > 0) {
    const auto chunk = TRY(reader.read_bytes(std::min<std::uint64_t>(reader.remaining(), kPageChunkBytes)));
    TRY_OR(sys::write_all(file.fd.get(), chunk), std::move(e).object(file.name));
    checksums.push_back(checksum(chunk));
  }
  return to.finish_pages(file, size, std::move(checksums));
}

Result<> recode_file(const InputDirectory& from, const FoundKind& found, OutputDirectory& to) {
  Reader reader = TRY(from.reader(*found.kind->type, found.number));
  if (found.kind->type == &kPages) return copy_pages(reader, *found.number, to);
  Copier copier(TRY(to.create(*found.kind->type, found.number)));
  TRY(visit_records(*found.kind, reader, copier));
  return copier.finish();
}

}  // namespace

Result<> recode(const InputDirectory& from, OutputDirectory& to) {
  for (const auto all = TRY(from.list()); const auto& [name, size] : all)
    if (const auto found = find_kind(name)) TRY(recode_file(from, *found, to));
  return {};
}

}  // namespace dormouse::images
