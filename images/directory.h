// Image files in a directory: writing them, sealing the set, verifying and reading it.
//
// Every file that goes through here is checksummed (XXH64, seed 0) while it is written. seal() writes
// dormouse.json, the manifest, last and atomically: a directory without it was not written to the end
// (or comes from the reference engine, which has no manifest). docs/image-format.md has the details.
//
// Every error of this header names the file as its object.
#pragma once

#include <google/protobuf/message_lite.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "images/types.h"

namespace dormouse::images {

// No single record may be longer; a length beyond it is corruption, told before anything is allocated.
inline constexpr std::size_t kMaxRecordBytes = 64u << 20;
// Page files are checksummed in chunks, so that they can be verified in parallel and in part.
inline constexpr std::size_t kPageChunkBytes = 256u << 10;

class OutputDirectory;

// Writes a file of one record that does not belong to the checkpoint: statistics, in any directory.
[[nodiscard]] Result<> write_unlisted(int directory, const ImageType& type,
                                      const google::protobuf::MessageLite& record);

// One image file being written. Buffered; nothing is promised until finish(). A file to which nothing was
// appended does not come into being.
class Writer {
 public:
  Writer(Writer&&) noexcept;
  Writer& operator=(Writer&&) noexcept;
  ~Writer();  // without finish(): the file stays unrecorded, and seal() will refuse

  // One record: its length (u32, little-endian) and its bytes in canonical field order.
  [[nodiscard]] Result<> append(const google::protobuf::MessageLite& record);
  // Payload that follows a record (pipe data, ghost file content) or a raw file's bytes.
  [[nodiscard]] Result<> append_bytes(std::span<const std::byte> bytes);
  // Flushes, closes, and records size and checksum for the manifest.
  [[nodiscard]] Result<> finish();

 private:
  friend class OutputDirectory;
  friend Result<> write_unlisted(int, const ImageType&, const google::protobuf::MessageLite&);
  struct State;
  explicit Writer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// A page file that tasks (or the engine) write at offsets of their own choice, and whose chunk
// checksums they report themselves.
struct PageFile {
  std::string name;
  Fd fd;  // write access
};

// Pages that were given up to save room, so that the images alone are not whole any more.
enum class Dropped : std::uint8_t {
  kNothing,
  kReplaced,  // those that a later checkpoint, built on this one, has too
  kRestored,  // those that a restore has read
};

// What the manifest says about the checkpoint as a whole.
struct ManifestInfo {
  std::uint32_t tasks = 0, threads = 0;
  std::uint64_t pages = 0;
  std::string root_comm;
  std::map<std::string, std::string> extra;  // free key/value facts for people
  // Names exactly this set of images; empty in those of older versions.
  std::string generation = {};
  // The generation of the images in `parent` that hold the pages flagged so; empty: there are none.
  std::string parent = {};
  bool pre_dump = false;  // memory only
  Dropped dropped = Dropped::kNothing;
};

class OutputDirectory {
 public:
  // `directory` stays the caller's. An existing dormouse.json and inventory.img are removed at once: from
  // now on the directory is not a checkpoint until seal(). (Write inventory.img last: without a manifest
  // it is what readers look for.)
  static Result<OutputDirectory> open(int directory);
  OutputDirectory(OutputDirectory&&) noexcept;
  OutputDirectory& operator=(OutputDirectory&&) noexcept;
  ~OutputDirectory();

  // The writer must be finished or gone before this object is. A file of the same name is replaced.
  Result<Writer> create(const ImageType& type, std::optional<std::uint64_t> number = std::nullopt);
  // A file of exactly one record.
  [[nodiscard]] Result<> write(const ImageType& type, std::optional<std::uint64_t> number,
                               const google::protobuf::MessageLite& record);
  Result<PageFile> create_pages(std::uint64_t number);
  // Makes `parent` a link to the images that these build on; `path` is meant from the directory.
  [[nodiscard]] Result<> link_parent(const std::string& path);
  // chunk_checksums[i] covers bytes [i * kPageChunkBytes, …) of the file; the last may be short. None at
  // all: the manifest will guard the size only.
  [[nodiscard]] Result<> finish_pages(const PageFile& file, std::uint64_t size_bytes,
                                      std::vector<std::uint64_t> chunk_checksums);
  // Writes the manifest: to a temporary name, fsync of all files first if `sync`, then rename.
  [[nodiscard]] Result<> seal(const ManifestInfo& info, bool sync);
  // Best effort: removes every file that this object created. For failed dumps.
  void discard() noexcept;

 private:
  struct State;
  explicit OutputDirectory(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Reads the records of one file in order.
class Reader {
 public:
  Reader(Reader&&) noexcept;
  Reader& operator=(Reader&&) noexcept;
  ~Reader();

  // False at the end of the file. A truncated, oversized or undecodable record is kCorruptImage and
  // names file and offset.
  Result<bool> next(google::protobuf::MessageLite& record);
  // Exactly `bytes` of payload after the last record.
  Result<std::vector<std::byte>> read_bytes(std::size_t bytes);
  // The same, appended to a file; for payloads of any size.
  [[nodiscard]] Result<> copy_bytes(std::uint64_t bytes, int to);
  [[nodiscard]] Result<> skip_bytes(std::uint64_t bytes);
  // Where the next record or payload begins, and how much of the file is left. In bytes.
  std::uint64_t offset() const;
  std::uint64_t remaining() const;
  const std::string& name() const;
  // "core-1.img: at byte 8: REASON", for callers who find a record that makes no sense.
  Error corrupt(std::string_view reason) const;

 private:
  friend class InputDirectory;
  friend Result<Reader> open_unlisted(int directory, const ImageType& type);
  struct State;
  explicit Reader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// A file that is not part of a checkpoint; see write_unlisted().
Result<Reader> open_unlisted(int directory, const ImageType& type);

class InputDirectory {
 public:
  // `directory` stays the caller's. Reads dormouse.json if it is there; a damaged one is an error.
  static Result<InputDirectory> open(int directory);
  InputDirectory(InputDirectory&&) noexcept;
  InputDirectory& operator=(InputDirectory&&) noexcept;
  ~InputDirectory();

  bool has_manifest() const;
  // What the manifest says about the whole; null without one.
  const ManifestInfo* info() const;
  // Which version of this engine wrote it; empty without a manifest.
  std::string_view engine_version() const;
  // With a manifest: every listed file is there, with its size and checksum (page files: size only;
  // their chunks are verified where they are read). Without one: fine.
  [[nodiscard]] Result<> verify() const;
  // The chunks of all page files as well.
  [[nodiscard]] Result<> verify_pages() const;
  // With a manifest only the files it lists exist: what lies about from an older dump does not count.
  bool exists(const ImageType& type, std::optional<std::uint64_t> number = std::nullopt) const;
  Result<Reader> reader(const ImageType& type, std::optional<std::uint64_t> number = std::nullopt) const;
  // The single record of a file.
  [[nodiscard]] Result<> read(const ImageType& type, std::optional<std::uint64_t> number,
                              google::protobuf::MessageLite& record) const;
  // All images of the checkpoint, in the order of their names, with sizes in bytes.
  Result<std::map<std::string, std::uint64_t>> list() const;
  // A raw file, opened read-only.
  Result<Fd> open_raw(const ImageType& type, std::uint64_t number) const;
  // The directory behind the link `parent`; no descriptor: there is no such link.
  Result<Fd> open_parent() const;
  // Empty if the manifest does not cover the file (images of the reference engine).
  std::span<const std::uint64_t> page_chunk_checksums(std::uint64_t pages_number) const;

 private:
  struct State;
  explicit InputDirectory(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// A fresh name for a set of images: 32 hexadecimal digits that no other has.
Result<std::string> new_generation();

}  // namespace dormouse::images
