// Any text under a seal that fits: reading must end in a manifest or a named error, and a manifest that was read must
// survive being written and read again.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "images/checksum.h"
#include "images/manifest.h"

using namespace dormouse;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string body(reinterpret_cast<const char*>(data), size);
  (void)images::parse_manifest(body);
  const std::string seal = images::checksum_text(images::checksum(body));
  const auto manifest = images::parse_manifest(body + ",\n \"seal\": \"" + seal + "\"\n}\n");
  if (!manifest) {
    if (manifest.error().object() != images::kManifestName) std::abort();
    return 0;
  }
  for (const auto& [name, file] : manifest->files)
    if (!images::is_image_name(name)) std::abort();
  const auto again = images::parse_manifest(images::manifest_text(*manifest));
  if (!again || again->files.size() != manifest->files.size()) {
    std::fprintf(stderr, "%s\n", again ? "another manifest" : again.error().message().c_str());
    std::abort();
  }
  return 0;
}
