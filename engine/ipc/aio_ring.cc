#include "engine/ipc/aio_ring.h"

#include <linux/aio_abi.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>

#include "base/format.h"
#include "base/pages.h"
#include "engine/memory/vma_kind.h"
#include "kernel/process.h"

namespace dormouse::engine {
namespace {

using parasite::Program;

constexpr std::uint64_t kMostAtOnce = 1024;  // requests

std::uint64_t events_in(std::uint64_t ring_bytes) { return (ring_bytes - sizeof(AioRingHeader)) / sizeof(::io_event); }

std::uint64_t both(std::uint32_t low, std::uint32_t high) { return low | std::uint64_t{high} << 32; }

Result<AioRingHeader> read_header(pid_t pid, std::uint64_t address) {
  AioRingHeader header{};
  TRY(sys::process_vm_read(pid, address, std::as_writable_bytes(std::span(&header, 1))));
  return header;
}

Result<std::uint64_t> make_context(const AioRingOwner& owner, std::uint32_t requests) {
  Program program;
  const auto context = program.zeros(sizeof(std::uint64_t));
  program.call("make an aio context", SYS_io_setup, {requests, context});
  return TRY(owner.run(program)).value<std::uint64_t>(context);
}

// Writes to /dev/null complete while they are submitted. The result is how many the kernel took: it may keep
// some back for other CPUs.
Result<std::uint64_t> submit(const AioRingOwner& owner, std::uint64_t context, std::uint64_t count) {
  Program program;
  const auto byte = program.zeros(1);
  ::iocb request{};
  request.aio_lio_opcode = IOCB_CMD_PWRITE;
  request.aio_fildes = static_cast<std::uint32_t>(owner.null_device);
  request.aio_nbytes = 1;
  const auto request_at = program.value(request);
  program.point(request_at + offsetof(::iocb, aio_buf), byte);
  const auto list = program.zeros(count * sizeof(std::uint64_t));
  for (std::uint64_t i = 0; i < count; ++i)
    program.point(list + static_cast<std::uint32_t>(i * sizeof(std::uint64_t)), request_at);
  const auto taken = program.call("repeat requests", SYS_io_submit, {context, count, list});
  return static_cast<std::uint64_t>(TRY(owner.run(program)).result(taken));
}

// Events are taken by moving the head, as libaio does; `tail`: where the kernel has put it.
Result<> take_events(const AioRingOwner& owner, std::uint64_t context, std::uint32_t head, std::uint32_t tail) {
  Program program;
  program.perform(parasite::OpCode::kStore, "take events", {context + offsetof(AioRingHeader, head), both(head, tail)});
  TRY(owner.run(program));
  return {};
}

}  // namespace

pb::aio_ring_entry describe_aio_ring(const pb::vma_entry& vma) {
  pb::aio_ring_entry ring;
  const std::uint64_t bytes = vma.end() - vma.start();
  ring.set_id(vma.start());
  ring.set_ring_len(static_cast<std::uint32_t>(bytes));
  // The kernel doubles the number that it is asked for and adds two, then fills the last page (Linux 3.10).
  ring.set_nr_req(static_cast<std::uint32_t>((events_in(bytes) - 2) / 2));
  return ring;
}

Result<> check_aio_rings(const pb::mm_entry& mm) {
  for (const pb::aio_ring_entry& ring : mm.aios()) {
    const bool is_mapping = std::ranges::any_of(mm.vmas(), [&](const pb::vma_entry& vma) {
      return is_aio_ring(vma) && vma.start() == ring.id() && vma.end() - vma.start() == ring.ring_len();
    });
    if (!is_mapping || ring.ring_len() == 0 || ring.ring_len() % kPage != 0)
      return fail(Error::corrupt(format("the aio ring at {:x} of {} bytes is no mapping of its own", ring.id(), ring.ring_len())));
  }
  return {};
}

std::uint64_t requests_to_repeat(const AioRingHeader& saved) {
  return saved.tail < saved.head ? std::uint64_t{saved.events} + saved.tail : saved.tail;
}

Result<> restore_aio_ring(const AioRingOwner& owner, const pb::aio_ring_entry& ring) {
  const AioRingHeader saved = TRY(read_header(owner.pid, ring.id()));
  if (saved.events != events_in(ring.ring_len()) || saved.head >= saved.events || saved.tail >= saved.events)
    return fail(Error::corrupt(format("it says {} events, head {} and tail {}", saved.events, saved.head, saved.tail)));
  const std::uint64_t context = TRY(make_context(owner, ring.nr_req()));
  const AioRingHeader made = TRY(read_header(owner.pid, context));
  // Rings are no smaller than the node's number of CPUs needs.
  if (made.events != saved.events)
    return fail(Error::unsupported(format("it has room for {} events, and this node makes one of {}", saved.events, made.events))
                    .remedy("restore on a node with as many CPUs"));

  const std::uint64_t count = requests_to_repeat(saved);
  for (std::uint64_t done = 0; done < count;) {
    const std::uint64_t most = std::min<std::uint64_t>(saved.events - 1, kMostAtOnce);
    const std::uint64_t taken = TRY(submit(owner, context, std::min(count - done, most)));
    if (taken == 0) return fail(Error::unsupported("the kernel takes no more requests for it"));
    done += taken;
    TRY(take_events(owner, context, static_cast<std::uint32_t>(std::min<std::uint64_t>(done, saved.head)),
                    static_cast<std::uint32_t>(done % saved.events)));
  }

  Program program;
  program.perform(parasite::OpCode::kStore, "", {ring.id(), both(made.id, made.events)});
  program.perform(parasite::OpCode::kCopyChanged, "copy the events", {context, ring.id(), ring.ring_len()});
  program.call("move the ring to its address", SYS_mremap,
               {context, ring.ring_len(), ring.ring_len(), MREMAP_MAYMOVE | MREMAP_FIXED, ring.id()},
               parasite::exactly(static_cast<std::int64_t>(ring.id())));
  TRY(owner.run(program));
  return {};
}

}  // namespace dormouse::engine
