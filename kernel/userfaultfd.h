// Two uses of userfaultfd.
//
// Write protection of another process's memory, lifted by the kernel itself at the first write to a page
// (UFFD_FEATURE_WP_ASYNC, Linux 6.7): pages without it have been written to (kernel/pagemap.h). `fd` is made by the
// process whose memory is meant, in its program or otherwise; what is asked of it here acts on that process's memory,
// whoever asks. When its last duplicate is closed, all protection is gone.
//
// Filling a mapping of a file on tmpfs (UFFDIO_COPY, Linux 4.11): whoever has a duplicate copies pages of his own memory
// into a mapping of the one who made `fd`. Unlike write() this takes no lock of the file, and the pages are charged to
// the memory cgroup of that one (mm/userfaultfd.c, mm/shmem.c: shmem_mfill_atomic_pte).
#pragma once

#include <cstdint>

#include "base/error.h"
#include "base/fd.h"

namespace dormouse::sys {

// Faults of the kernel need no privilege this way; asynchronous protection does not report any (Linux 5.11).
inline constexpr int kUserfaultfdUserModeOnly = 1;

// Once, before anything else.
[[nodiscard]] Result<> userfaultfd_begin_async(int fd);
// From now on pages of [start, end) can be write-protected. EPERM: the mapping can never be written. EBUSY:
// it belongs to another userfaultfd. A range registered already stays as it is.
[[nodiscard]] Result<> userfaultfd_register(int fd, std::uint64_t start, std::uint64_t end);
// Takes the protection off all pages.
[[nodiscard]] Result<> userfaultfd_unprotect(int fd, std::uint64_t start, std::uint64_t end);

// One by which missing pages of [start, end), a mapping of the caller's, can be filled.
Result<Fd> userfaultfd_for_filling(std::uint64_t start, std::uint64_t end);

}  // namespace dormouse::sys
