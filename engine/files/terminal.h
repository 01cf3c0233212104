// Terminals: the descriptor (a TTY record and the REG record of its path), and the terminal behind it
// (a record of tty-info.img): settings, size, session, foreground group.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/files/file_kind.h"
#include "images/directory.h"

namespace dormouse::engine {

class TerminalFile final : public FileKind {
 public:
  std::string_view name() const override { return "terminal"; }
  int type() const override;
  bool matches(const OpenFile& file) const override;
  Result<> save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) override;
  Result<> save_in_flight(FilesSaver& saver) override;
  Result<> finish_saving(FilesSaver& saver) override;
  Result<Fd> open(const pb::file_entry& entry, FilesOpener& opener) override;
  Result<> refill(FilesOpener& opener) override;

 private:
  // A saved slave side of a pseudo terminal, for the check that its other end is there at restore.
  struct Slave {
    std::uint32_t index;
    std::string object, owner;
  };
  [[nodiscard]] Result<> save_waiting(FilesSaver& saver) const;

  std::optional<images::Writer> infos_;
  std::map<std::uint32_t, bool> saved_;  // by number in tty-info.img; whether it is hung up
  std::vector<Slave> slaves_;            // that are not hung up
  struct Readable {
    Fd fd;
    std::string owner;
  };
  std::map<std::uint32_t, Readable> readable_;  // by number: an end of a pseudo terminal, open for reading
};

}  // namespace dormouse::engine
