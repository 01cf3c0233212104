// What a child's address space has in common with its parent's: the mappings that a fork brings along, and
// what must be taken away from them. Pure, and linear in the number of mappings and runs.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/memory/chunks.h"
#include "engine/memory/vdso.h"
#include "images/schema/memory.pb.h"

namespace dormouse::engine {

// Parallel to the child's records: the parent's mapping of which a fork makes it, all or a piece, or null. It may end
// behind the parent's, and is to be made longer then. Locks are no obstacle: a fork drops them.
std::vector<const pb::vma_entry*> inherited_mappings(const pb::mm_entry& parent, const pb::mm_entry& child);

// What the parent has mapped and the child has not from there.
std::vector<AddressRange> foreign_mappings(const pb::mm_entry& parent, const pb::mm_entry& child,
                                           const std::vector<const pb::vma_entry*>& inherited);

// Pages within `inherited` (ascending) that the parent has and the child has not: they are to be dropped, or
// they would be the parent's in the child as well.
std::vector<AddressRange> stale_pages(const std::vector<AddressRange>& inherited, const std::vector<PageRun>& parent,
                               const std::vector<PageRun>& child);

}  // namespace dormouse::engine
