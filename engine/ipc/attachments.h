// System V shared memory where tasks have it mapped. An attachment may be cut to pieces by munmap(), moved by
// mremap() and protected page by page; shmdt() still finds its pieces, as each has its offset in the segment.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/dump_context.h"
#include "engine/ipc/system_v.h"
#include "engine/plan/image.h"
#include "images/schema/memory.pb.h"
#include "parasite/host/program.h"

namespace dormouse::engine {

// Attachments of segments that are not saved become blockers.
void check_attachments(DumpContext& context, const Task& task, std::span<const pb::vma_entry> vmas,
                       bool own_namespace, std::span<const SavedSegment> segments);

// How much of the address space attaching needs for a moment: the largest segment, if one is attached in pieces.
std::uint64_t attaching_bytes(const Image& image);

// Attaches what `mm` says, with the number of attachments that the kernel counts for it (it counts mappings).
// `room`: address of attaching_bytes() of free memory.
void append_attachments(parasite::Program& program, const Image& image, const pb::mm_entry& mm, std::uint64_t room);

// Segments that were removed while attached are removed again, when all attachments exist.
void append_removals(parasite::Program& program, const Image& image);

}  // namespace dormouse::engine
