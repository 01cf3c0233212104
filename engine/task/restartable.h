// Restartable sequences (rseq, Linux 4.18): a thread's registration, and what to do with one that was
// stopped inside a sequence.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "base/error.h"
#include "kernel/abi.h"
#include "parasite/host/program.h"

namespace dormouse::pb {
class rseq_entry;
}

namespace dormouse::engine {

void save_restartable(const abi::RseqConfiguration& configuration, pb::rseq_entry& to);

// Where a thread of `pid` stopped at `instruction` must go on if it was inside a sequence: its abort handler.
// It must be sent there before it runs anything else: on its way to user mode the kernel sees it outside the
// sequence and forgets that it ever was inside, so that nobody would abort it any more.
Result<std::optional<std::uint64_t>> abort_address(pid_t pid, const abi::RseqConfiguration& configuration,
                                                   std::uint64_t instruction);

void append_restartable(parasite::Program& program, const pb::rseq_entry& from);

}  // namespace dormouse::engine
