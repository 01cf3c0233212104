// Saving an open file by its path: a REG record of files.img, which is also how fifos, terminals and
// mapped files say where they are.
//
// A path only helps if it still leads to the file. A file that was deleted while open is saved whole
// (a ghost file); one that merely lost this name can be given another (--link-remap). Files of /proc of a process that
// is gone say which process it was.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "images/directory.h"

namespace dormouse::pb {
class remap_file_path_entry;
}

namespace dormouse::engine {

struct OpenFile;
class FilesSaver;

class PathSaver {
 public:
  PathSaver() = default;
  PathSaver(const PathSaver&) = delete;
  PathSaver& operator=(const PathSaver&) = delete;
  ~PathSaver();  // without keep_links(): takes the links back

  // Writes the REG record with that id.
  [[nodiscard]] Result<> save(const OpenFile& file, std::uint32_t id, std::uint64_t pos, FilesSaver& saver);
  // As save(), with an id of its own.
  Result<std::uint32_t> save(const OpenFile& file, FilesSaver& saver);
  [[nodiscard]] Result<> finish();
  // The checkpoint is complete: the names made for --link-remap belong to it.
  void keep_links() { links_.clear(); }

 private:
  Result<std::string> lasting_path(const OpenFile& file, std::uint32_t id, FilesSaver& saver);
  Result<> remap_to_ghost(const OpenFile& file, const std::string& path, std::uint32_t id,
                          FilesSaver& saver);
  Result<> remap_to_link(const OpenFile& file, const std::string& path, std::uint32_t id,
                         FilesSaver& saver);
  Result<> remap_to_process(pid_t pid, std::uint32_t id, FilesSaver& saver);
  Result<> write_remap(const pb::remap_file_path_entry& remap, FilesSaver& saver);

  struct Link {
    Fd root;
    std::string path;
  };
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint32_t> ghosts_;  // by device, inode
  std::optional<images::Writer> remaps_;
  std::vector<Link> links_;
};

}  // namespace dormouse::engine
