#include "engine/task/restartable.h"

#include <sys/syscall.h>

#include <span>

#include "images/schema/task.pb.h"
#include "kernel/process.h"

namespace dormouse::engine {
namespace {

// struct rseq and struct rseq_cs of <linux/rseq.h>.
constexpr std::uint64_t kSequenceOffset = 8;
struct Sequence {
  std::uint32_t version, flags;
  std::uint64_t start, length, abort;
};

// Nothing if it cannot be read: the kernel kills such a thread at its next preemption, and so it shall.
template <class T>
std::optional<T> read_object(pid_t pid, std::uint64_t address) {
  T object{};
  const auto bytes = std::as_writable_bytes(std::span(&object, 1));
  if (!sys::process_vm_read(pid, address, bytes)) return std::nullopt;
  return object;
}

}  // namespace

void save_restartable(const abi::RseqConfiguration& configuration, pb::rseq_entry& to) {
  to.set_rseq_abi_pointer(configuration.pointer);
  to.set_rseq_abi_size(configuration.size);
  to.set_signature(configuration.signature);
}

Result<std::optional<std::uint64_t>> abort_address(pid_t pid, const abi::RseqConfiguration& configuration,
                                                   std::uint64_t instruction) {
  if (configuration.pointer == 0) return std::nullopt;
  const auto address = read_object<std::uint64_t>(pid, configuration.pointer + kSequenceOffset);
  if (!address || *address == 0) return std::nullopt;
  const auto sequence = read_object<Sequence>(pid, *address);
  // The pointer may be left over from a sequence that has ended.
  if (!sequence || instruction - sequence->start >= sequence->length) return std::nullopt;
  if (sequence->version != 0)
    return fail(Error::unsupported("it is inside a restartable sequence of an unknown kind"));
  return sequence->abort;
}

void append_restartable(parasite::Program& program, const pb::rseq_entry& from) {
  if (from.rseq_abi_pointer() == 0) return;
  program.call("register restartable sequences", SYS_rseq,
               {from.rseq_abi_pointer(), from.rseq_abi_size(), 0, from.signature()});
}

}  // namespace dormouse::engine
