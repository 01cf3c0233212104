// What Reader and InputDirectory share. Private to this room.
#pragma once

#include <optional>
#include <string>

#include "images/directory.h"
#include "images/manifest.h"

namespace dormouse::images {

// An opened image and its size when it was opened.
struct OpenedFile {
  Fd fd;
  std::uint64_t size_bytes = 0;
};

// Opens for reading, never following a link and never waiting (a fifo is refused, not opened). A file that
// is not there is kCorruptImage.
Result<OpenedFile> open_file(int directory, const std::string& name);

// Nothing if the directory has none.
Result<std::optional<Manifest>> read_manifest(int directory);

struct Reader::State {
  std::string name;
  OpenedFile file;
  std::string window;              // the bytes of the file at [window_at, window_at + window.size())
  std::uint64_t window_at = 0;
  std::uint64_t offset = 0;        // what the caller has consumed

  static Result<Reader> open(int directory, const ImageType& type, std::string name);
  Result<> check_preamble(const ImageType& type);
  std::uint64_t remaining() const { return file.size_bytes - offset; }
  // `bytes` bytes at the offset, which moves on. They stay valid until the next call. The caller has
  // compared with remaining() and with a limit.
  Result<std::string_view> take(std::size_t bytes);
  Result<std::uint32_t> take_u32();
  Error corrupt(std::uint64_t at, std::string_view reason) const;
};

}  // namespace dormouse::images
