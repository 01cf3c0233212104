#include "kernel/probes.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/memfd.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>

#include "base/defer.h"
#include "kernel/abi.h"
#include "kernel/file.h"
#include "kernel/process.h"
#include "kernel/proc/directory.h"

namespace dormouse::sys::probes {

namespace {

std::size_t page_bytes() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

// One private page of our own, written to.
Result<Mapping> touched_page() {
  auto page = TRY(Mapping::map(-1, page_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS));
  *static_cast<volatile std::byte*>(page.data()) = std::byte{1};
  return page;
}

// The features a userfaultfd of this kernel offers; nothing if there is no userfaultfd for us.
std::uint64_t userfaultfd_features() {
  const Fd fd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  if (!fd) return 0;
  ::uffdio_api api{};
  api.api = UFFD_API;
  if (::ioctl(fd.get(), UFFDIO_API, &api) != 0) return 0;
  return api.features;
}

// Categories of the first page at `address` in our own memory; nothing if the call failed.
std::optional<std::uint64_t> scan_own_page(const std::byte* address, std::uint64_t categories) {
  const auto pagemap = sys::openat(AT_FDCWD, "/proc/self/pagemap", O_RDONLY);
  if (!pagemap) return std::nullopt;
  abi::PageRegion region;
  abi::PagemapScanArg arg;
  arg.size = sizeof arg;
  arg.start = reinterpret_cast<std::uintptr_t>(address);
  arg.end = arg.start + page_bytes();
  arg.vec = reinterpret_cast<std::uintptr_t>(&region);
  arg.vec_len = 1;
  arg.category_anyof_mask = categories;
  arg.return_mask = categories;
  const auto found = sys::ioctl(pagemap->get(), abi::kPagemapScan, &arg);
  if (!found) return std::nullopt;
  return *found == 1 ? region.categories : 0;
}

}  // namespace

bool pagemap_scan() {
  const auto page = touched_page();
  return page && scan_own_page(page->data(), abi::kPageIsPresent) == abi::kPageIsPresent;
}

bool pagemap_scan_guard() {
  constexpr int kMadvGuardInstall = 102;
  const auto page = touched_page();
  if (!page || ::madvise(page->data(), page->size(), kMadvGuardInstall) != 0) return false;
  return scan_own_page(page->data(), abi::kPageIsGuard) == abi::kPageIsGuard;
}

bool soft_dirty() {
  // A new mapping counts as dirty until somebody clears the bits, so no clearing is needed to see one.
  constexpr std::uint64_t kSoftDirtyBit = std::uint64_t{1} << 55;
  const auto page = touched_page();
  const auto pagemap = sys::openat(AT_FDCWD, "/proc/self/pagemap", O_RDONLY);
  if (!page || !pagemap) return false;
  std::uint64_t entry = 0;
  const auto at = reinterpret_cast<std::uintptr_t>(page->data()) / page_bytes() * sizeof entry;
  return sys::pread_exactly(pagemap->get(), std::as_writable_bytes(std::span(&entry, 1)), at) &&
         (entry & kSoftDirtyBit);
}

bool userfaultfd() { return userfaultfd_features() != 0; }
bool userfaultfd_fork() {
  constexpr std::uint64_t kEvents = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
                                    UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP;
  return (userfaultfd_features() & kEvents) == kEvents;
}
bool userfaultfd_wp_async() {
  return (userfaultfd_features() & abi::kUffdFeatureWpAsync) && pagemap_scan();
}

bool process_vm() {
  const std::uint64_t here = 0x646f726d6f757365;
  std::uint64_t copy = 0;
  return sys::process_vm_read(::getpid(), reinterpret_cast<std::uintptr_t>(&here),
                              std::as_writable_bytes(std::span(&copy, 1))) &&
         copy == here;
}

bool memfd() { return sys::memfd_create("probe").has_value(); }
bool memfd_hugetlb() { return sys::memfd_create("probe", MFD_HUGETLB).has_value(); }

bool map_vdso() {
#if defined(__x86_64__)
  // A kernel that knows the request refuses a second vdso.
  constexpr int kArchMapVdso64 = 0x2003;
  return ::syscall(SYS_arch_prctl, kArchMapVdso64, 0) == -1 && errno == EEXIST;
#else
  return false;
#endif
}

bool aio_remap() {
  ::aio_context_t context = 0;
  if (::syscall(SYS_io_setup, 16, &context) != 0) return false;
  // The context's number is the address of its ring, and follows when the ring is moved.
  const Defer destroy([&] { ::syscall(SYS_io_destroy, context); });
  const auto self = proc::ProcDir::self();
  if (!self) return false;
  const auto maps = self->maps();
  if (!maps) return false;
  for (const auto& vma : *maps) {
    if (vma.start != context) continue;
    void* const old = reinterpret_cast<void*>(vma.start);
    const std::size_t size = vma.size_bytes();
    void* const place = ::mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED) return false;
    if (::mremap(old, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, place) == MAP_FAILED) {
      ::munmap(place, size);
      return false;
    }
    context = reinterpret_cast<std::uintptr_t>(place);
    return ::syscall(SYS_io_getevents, context, 0, 1, nullptr, nullptr) == 0;
  }
  return false;
}

}  // namespace dormouse::sys::probes
