// Shared anonymous memory on restore: one kernel object per shmid, filled by the engine and handed to
// everybody who maps it.
#pragma once

#include <cstdint>
#include <map>

#include "engine/restore_context.h"

namespace dormouse::engine {

class SharedMemory {
 public:
  // Makes and fills all objects of the image.
  static Result<SharedMemory> make(const RestoreContext& context);
  // Owned by this object.
  int descriptor(std::uint64_t shmid) const { return objects_.at(shmid).get(); }
  std::uint64_t pages() const { return pages_; }

 private:
  std::map<std::uint64_t, Fd> objects_;
  std::uint64_t pages_ = 0;
};

}  // namespace dormouse::engine
