// The text of dormouse.json: what belongs to a checkpoint, with sizes and checksums.
//
// The text ends with a seal, the checksum of everything before it, so that a manifest that was cut short
// or damaged is not believed. See docs/image-format.md.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "images/directory.h"

namespace dormouse::images {

inline constexpr const char* kManifestName = "dormouse.json";
inline constexpr const char* kParentLink = "parent";
inline constexpr std::uint64_t kManifestFormat = 1;
// Enough for the chunk checksums of 4 TiB of pages.
inline constexpr std::size_t kMaxManifestBytes = 64u << 20;

struct Manifest {
  struct File {
    std::uint64_t size_bytes = 0, checksum = 0;
  };
  struct Pages {
    std::uint64_t size_bytes = 0;
    std::vector<std::uint64_t> chunk_checksums;  // empty: not covered
  };

  std::string engine_version;
  ManifestInfo info;
  std::map<std::string, File, std::less<>> files;
  std::map<std::string, Pages, std::less<>> page_files;
};

// A name that may stand in a manifest: one component of a path, printable, and not the manifest itself.
bool is_image_name(std::string_view name);
// How many checksums a page file of this size has.
std::uint64_t chunk_count(std::uint64_t size_bytes);

std::string manifest_text(const Manifest& manifest);
// Errors are kCorruptImage and name dormouse.json.
Result<Manifest> parse_manifest(std::string_view text);

}  // namespace dormouse::images
