// timerfd_create(2). Saved as the time that is left, so a timer goes on where it was; one set to a wall
// clock time fires that much later, too.
#pragma once

#include <cstdint>
#include <map>

#include "engine/files/file_kind.h"

namespace dormouse::engine {

class TimerFile final : public FileKind {
 public:
  std::string_view name() const override { return "timerfd"; }
  int type() const override;
  bool matches(const OpenFile& file) const override;
  Result<> save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) override;
  Result<Fd> open(const pb::file_entry& entry, FilesOpener& opener) override;
  // Timers run from here on: as late as possible.
  Result<> refill(FilesOpener& opener) override;

 private:
  std::map<std::uint32_t, Fd> waiting_;  // opened and not yet armed, by file id
};

}  // namespace dormouse::engine
