// Every kind of image file there is, and what its records are: for whoever handles images without knowing
// what is in them (checking, listing, converting).
#pragma once

#include <google/protobuf/message_lite.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "base/error.h"
#include "images/directory.h"

namespace dormouse::images {

// Sees the content of a file in order.
class RecordVisitor {
 public:
  virtual ~RecordVisitor() = default;
  virtual Result<> record(const google::protobuf::MessageLite& record) = 0;
  // `bytes` bytes without framing come next (never 0); must be taken from the reader.
  virtual Result<> payload(Reader& reader, std::uint64_t bytes) = 0;
};

struct ImageKind {
  using MakeRecord = std::unique_ptr<google::protobuf::MessageLite> (*)();
  using VisitRest = Result<> (*)(const google::protobuf::MessageLite& record, Reader& reader,
                                 RecordVisitor& visitor);

  const ImageType* type;
  MakeRecord first;      // null: a raw file
  MakeRecord following;  // records after the first; null: there are none
  VisitRest rest;        // what stands behind each record before the next; null: nothing
};

// In no particular order.
std::span<const ImageKind> all_kinds();

struct FoundKind {
  const ImageKind* kind;
  std::optional<std::uint64_t> number;
};
// Nothing for names that are no image's.
std::optional<FoundKind> find_kind(std::string_view file_name);

// Decodes the whole file. Errors name file and offset.
[[nodiscard]] Result<> visit_records(const ImageKind& kind, Reader& reader, RecordVisitor& visitor);
// The same with nothing done: every record of every file can be decoded.
[[nodiscard]] Result<> check_records(const InputDirectory& images);

}  // namespace dormouse::images
