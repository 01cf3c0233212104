// What is in a checkpoint, for people.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "images/directory.h"

namespace dormouse::images {

struct TaskSummary {
  // As in the task's own pid namespace. The parent of the root is 0.
  std::uint32_t pid = 0, parent_pid = 0, process_group = 0, session = 0;
  std::string comm;
  bool zombie = false;
  std::uint32_t threads = 0;
  std::uint32_t descriptors = 0;
  std::uint64_t mappings = 0, mapped_bytes = 0;
  // Private memory: saved here, left in the parent checkpoint, left to be fetched on demand.
  std::uint64_t pages = 0, parent_pages = 0, lazy_pages = 0;
};

struct Summary {
  enum class Seal : std::uint8_t {
    kSealed,  // there is a manifest
    kNone,    // made by another engine
  };
  Seal seal = Seal::kNone;
  std::string engine_version;  // empty without a manifest
  std::vector<TaskSummary> tasks;  // parents before children
  std::uint64_t threads = 0;
  std::uint64_t open_files = 0;  // different ones; tasks may share them
  std::uint64_t mounts = 0;
  std::uint64_t shared_pages = 0;  // of shared memory objects, each once
  std::uint64_t image_files = 0, image_bytes = 0, page_file_bytes = 0;
};

// Reads everything but the pages. Does not verify checksums; see InputDirectory::verify().
Result<Summary> summarize(const InputDirectory& images);
// Some lines, the last one ended too: totals, then the tree of tasks.
std::string summary_text(const Summary& summary);
// "512 B", "68 KiB", "1.4 GiB".
std::string bytes_text(std::uint64_t bytes);

}  // namespace dormouse::images
