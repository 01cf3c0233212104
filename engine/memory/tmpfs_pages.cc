#include "engine/memory/tmpfs_pages.h"

#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <system_error>

#include "base/signals.h"
#include "kernel/userfaultfd.h"

namespace dormouse::engine {

std::optional<TmpfsPages> TmpfsPages::open(int file, std::uint64_t bytes) {
  const auto system = sys::fstatfs(file);
  if (!system || system->f_type != TMPFS_MAGIC || bytes == 0) return std::nullopt;
  if (::ftruncate(file, static_cast<off_t>(bytes)) == -1) return std::nullopt;
  auto mapping = sys::Mapping::map(file, bytes, PROT_READ | PROT_WRITE, MAP_SHARED);
  if (!mapping) return std::nullopt;
  const auto start = reinterpret_cast<std::uint64_t>(mapping->data());
  auto userfaultfd = sys::userfaultfd_for_filling(start, start + bytes);
  if (!userfaultfd) return std::nullopt;
  return TmpfsPages(std::move(*mapping), std::move(*userfaultfd));
}

std::uint64_t TmpfsPages::address_of(std::uint64_t offset) const {
  return reinterpret_cast<std::uint64_t>(mapping_.data()) + offset;
}

void TmpfsPages::let_go_before(std::uint64_t end) {
  const auto drop = [start = mapping_.data() + gone_, bytes = end - gone_] { (void)::madvise(start, bytes, MADV_DONTNEED); };
  gone_ = end;
  behind_ = {};  // the one before it is done
  try {
    const AllSignalsBlocked quiet;
    behind_ = std::jthread(drop);
  } catch (const std::system_error&) {
    drop();  // a limit on processes
  }
}

}  // namespace dormouse::engine
