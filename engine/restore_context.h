// What every restorer of a resource gets.
#pragma once

#include "base/log.h"
#include "engine/options.h"
#include "engine/plan/image.h"
#include "images/directory.h"

namespace dormouse::engine {

struct RestoreContext {
  const RestoreOptions& options;
  Log& log;
  const images::InputDirectory& in;
  const Image& image;
  const images::Chain* chain = nullptr;  // never null in a restore

  std::string page_file_name(std::uint32_t file) const {
    const PageFileName& name = image.page_files[file];
    return images::Chain::name(name.level, images::file_name(images::kPages, name.number));
  }
  Result<Fd> open_page_file(std::uint32_t file) const {
    const PageFileName& name = image.page_files[file];
    return (*chain)[name.level].open_raw(images::kPages, name.number);
  }
  // Empty: nothing is known.
  std::span<const std::uint64_t> page_checksums(std::uint32_t file) const {
    const PageFileName& name = image.page_files[file];
    return (*chain)[name.level].page_chunk_checksums(name.number);
  }
};

}  // namespace dormouse::engine
