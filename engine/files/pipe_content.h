// What is inside pipes and fifos: pipes-data.img and fifo-data.img, records followed by raw bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "base/error.h"
#include "images/directory.h"

namespace dormouse::engine {

struct OpenFile;

class PipeContentSaver {
 public:
  explicit PipeContentSaver(images::ImageType type) : type_(type) {}
  // Copies the content without consuming it, once for each pipe. Only a read end can, so a call with a
  // write end does nothing.
  [[nodiscard]] Result<> save(const OpenFile& file, std::uint32_t pipe_id, images::OutputDirectory& out);
  [[nodiscard]] Result<> finish();

 private:
  images::ImageType type_;
  std::set<std::uint32_t> saved_;
  std::optional<images::Writer> writer_;
};

class PipeContents {
 public:
  struct Content {
    std::optional<std::uint32_t> capacity_bytes;
    std::vector<std::byte> bytes;
  };
  static Result<PipeContents> load(const images::InputDirectory& in, images::ImageType type);
  // Null: nothing is known of that pipe.
  const Content* of(std::uint32_t pipe_id) const;

 private:
  std::map<std::uint32_t, Content> contents_;
};

// Capacity first, then the bytes. `fd` can write; nobody reads meanwhile.
[[nodiscard]] Result<> fill_pipe(int fd, const PipeContents::Content& content);

}  // namespace dormouse::engine
