// Writing a tar archive in GNU's format, as a stream.
//
// Names and links are raw bytes of any length, numbers of any size; files with holes are stored as GNU's
// sparse members. What the format has no room for (fractions of seconds, extended attributes) goes into
// pax headers, which GNU tar understands too.
#pragma once

#include <sys/types.h>
#include <time.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace dormouse::engine {

// A range of a file that holds data; what is between ranges are holes.
struct DataRange {
  std::uint64_t offset = 0, size = 0;
};

struct TarMember {
  std::string path;  // relative; directories end with a slash
  mode_t mode = 0;   // type and permissions: S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO
  uid_t uid = 0;
  gid_t gid = 0;
  timespec modified{};
  std::string link;           // target of a symbolic link
  std::string same_as;        // a hard link: the path of the member it is the same file as
  dev_t device = 0;           // S_IFCHR, S_IFBLK
  std::uint64_t size = 0;     // S_IFREG: bytes, holes included
  std::vector<DataRange> data;  // S_IFREG: ascending; the content that follows is that of the ranges
  std::vector<std::pair<std::string, std::string>> attributes;  // extended ones
};

class TarWriter {
 public:
  using Sink = std::function<Result<>(std::span<const std::byte>)>;
  explicit TarWriter(Sink sink) : sink_(std::move(sink)) {}

  // For a file with data, exactly that many bytes of content() must follow.
  [[nodiscard]] Result<> add(const TarMember& member);
  [[nodiscard]] Result<> content(std::span<const std::byte> bytes);
  [[nodiscard]] Result<> finish();

 private:
  [[nodiscard]] Result<> add_special(char type, std::string_view name, std::string_view payload);
  [[nodiscard]] Result<> add_sparse_map(std::span<const DataRange> ranges);
  [[nodiscard]] Result<> put(std::string_view text);
  [[nodiscard]] Result<> pad(std::uint64_t size);

  Sink sink_;
  std::uint64_t content_left_ = 0;
  std::uint64_t content_size_ = 0;
};

}  // namespace dormouse::engine
