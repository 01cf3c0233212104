// Seccomp: the filters of all threads (seccomp.img) and each thread's mode.
#pragma once

#include <linux/filter.h>
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "images/directory.h"
#include "parasite/host/program.h"

namespace dormouse::pb {
class seccomp_entry;
class thread_core_entry;
}  // namespace dormouse::pb

namespace dormouse::engine {

// One thread's state as the kernel tells it.
struct SeccompState {
  struct Filter {
    std::vector<sock_filter> code;
    std::uint32_t flags = 0;  // SECCOMP_FILTER_FLAG_*
    bool operator==(const Filter& other) const;
  };
  std::uint32_t mode = 0;        // SECCOMP_MODE_*
  std::vector<Filter> filters;   // in the order they were installed
};
// The thread must be in a ptrace stop. `mode`: as in /proc/TID/status. Needs CAP_SYS_ADMIN if there are filters.
Result<SeccompState> read_seccomp(pid_t tid, std::uint32_t mode);

// The filters of the whole tree, each chain once: tasks inherit theirs, so most have the same.
class SeccompTable {
 public:
  SeccompTable();
  ~SeccompTable();
  SeccompTable(const SeccompTable&) = delete;
  SeccompTable& operator=(const SeccompTable&) = delete;

  // Fills mode and filter index of a process's threads, the leader's first. The kernel does not tell whether
  // equal chains are one object. If all threads' are equal, they are taken for one: the leader's is
  // marked SECCOMP_FILTER_FLAG_TSYNC and the others have none, as the reference engine does it, since a process
  // whose threads had chains of their own could never synchronise them later.
  void save(std::span<const SeccompState> threads, std::span<pb::thread_core_entry* const> to);

  [[nodiscard]] Result<> write(images::OutputDirectory& out) const;
  const pb::seccomp_entry& entry() const { return *entry_; }

 private:
  std::uint32_t add(const std::vector<SeccompState::Filter>& chain, std::uint32_t more_flags);
  std::unique_ptr<pb::seccomp_entry> entry_;
  std::map<std::string, std::uint32_t> known_;  // from a chain's bytes to its index
};

// To be run before credentials are given up: without no_new_privs, filters need CAP_SYS_ADMIN. The filters must
// not bite yet: the thread is traced with PTRACE_O_SUSPEND_SECCOMP.
[[nodiscard]] Result<> append_seccomp(parasite::Program& program, const pb::thread_core_entry& from,
                                      const pb::seccomp_entry* table);

}  // namespace dormouse::engine
