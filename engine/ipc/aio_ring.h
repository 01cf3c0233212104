// Contexts of asynchronous I/O (io_setup). A context is known by the address of its ring, a mapping into which the
// kernel writes completed events and from which the task may take them itself.
//
// Requests that are still under way cannot be seen from outside (Linux 6.18 tells nobody); what completes
// after the task was stopped is lost, as with the reference. The image has the ring as it was.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>

#include "base/error.h"
#include "images/schema/memory.pb.h"
#include "parasite/host/area.h"
#include "parasite/host/program.h"

namespace dormouse::engine {

// What a ring begins with; its events follow.
struct AioRingHeader {
  std::uint32_t id;    // the kernel's number of it
  std::uint32_t events;
  std::uint32_t head;  // the next to be taken
  std::uint32_t tail;  // where the next will be put; the kernel has its own copy of this
  std::uint32_t magic, compatible_features, incompatible_features, header_bytes;
};
static_assert(sizeof(AioRingHeader) == 32);

// The record of the ring that is `vma`.
pb::aio_ring_entry describe_aio_ring(const pb::vma_entry& vma);

// A ring of the image is a mapping of its own, of a length that rings have.
[[nodiscard]] Result<> check_aio_rings(const pb::mm_entry& mm);

// How many requests have to complete in a new ring until its tail is where it was and as many of them as there
// were are not taken yet: with a head before the tail, one round more.
std::uint64_t requests_to_repeat(const AioRingHeader& saved);

// The task that is to have the ring.
struct AioRingOwner {
  std::function<Result<parasite::Placed>(const parasite::Program&)> run;
  pid_t pid;        // as the engine sees it
  int null_device;  // number of its descriptor of /dev/null, open for writing
};
// Makes the context anew. What it held lies at its address, in ordinary memory, which the ring replaces. Afterwards the
// kernel counts its events as before.
[[nodiscard]] Result<> restore_aio_ring(const AioRingOwner& owner, const pb::aio_ring_entry& ring);

}  // namespace dormouse::engine
