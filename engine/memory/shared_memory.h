// Shared anonymous memory on restore: one kernel object per shmid, filled by the engine and handed to
// everybody who maps it.
#pragma once

#include <cstdint>
#include <map>

#include "engine/restore_context.h"

namespace dormouse::engine {

// An object as mmap(MAP_SHARED | MAP_ANONYMOUS) makes it, open for reading and writing. `more_flags`: MAP_HUGETLB with
// the size of huge pages, MAP_NORESERVE.
Result<Fd> make_shared_memory(std::uint64_t size_bytes, std::uint32_t more_flags = 0);
// Puts the saved pages into an object that has its size already.
[[nodiscard]] Result<> fill_shared_memory(int object, std::uint64_t size_bytes, const ShmemImage& image,
                                          const RestoreContext& context);

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
