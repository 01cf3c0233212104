// What Writer and OutputDirectory share. Private to this room.
#pragma once

#include <mutex>
#include <set>
#include <string>

#include "images/checksum.h"
#include "images/directory.h"
#include "images/manifest.h"

namespace dormouse::images {

// Large enough that all but page files and payloads are one write().
inline constexpr std::size_t kWriteBufferBytes = 256u << 10;

// What a directory knows of the files it is made of, which several threads may write.
struct Ledger {
  std::mutex mutex;
  Manifest manifest;
  std::set<std::string> created;     // may exist because of us
  std::set<std::string> unfinished;  // still being written
};

struct Writer::State {
  int directory = -1;
  std::string name;
  Ledger* ledger = nullptr;  // null: a file that is not listed
  Fd fd;                         // opened by the first flush
  std::string buffer;
  RunningChecksum checksum;
  std::uint64_t written_bytes = 0;
  std::size_t preamble_bytes = 0;

  void begin(const ImageType& type);
  Result<> append(const google::protobuf::MessageLite& record);
  Result<> flush();
  Result<> write(std::span<const std::byte> bytes);
  Result<> finish();
};

struct OutputDirectory::State {
  int directory = -1;
  Ledger ledger;
};

// Says what a failure to write means to the one who has to make room.
Error write_failure(Error&& error, const std::string& name);
// Under a temporary name first, so that the old or the new one is there at any time.
Result<> write_manifest(int directory, const Manifest& manifest, bool sync);
// Creates or empties a file of ours, never following a link.
Result<Fd> create_file(int directory, const std::string& name);

}  // namespace dormouse::images
