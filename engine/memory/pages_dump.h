// Saving page contents: pagemap-N.img says which, pages-N.img holds the bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "engine/dump_context.h"
#include "engine/memory/address_space.h"
#include "engine/memory/chunks.h"
#include "engine/memory/shared_pages.h"
#include "kernel/features.h"
#include "parasite/host/held_process.h"

namespace dormouse::engine {

struct PageCounts {
  std::uint64_t scanned = 0, written = 0;                // private pages
  std::uint64_t shared_scanned = 0, shared_written = 0;  // of shared objects
};

class PagesDump {
 public:
  PagesDump(DumpContext& context, const sys::Features& features) : context_(context), features_(features) {}

  // The private pages of one process. `held` is in the interpreter, or null: then the engine copies.
  [[nodiscard]] Result<> save(const Task& task, const proc::ProcDir& dir, const AddressSpace& space,
                              parasite::Keeper* keeper, parasite::HeldProcess* held);
  // Shared anonymous memory, each object of the tree once.
  [[nodiscard]] Result<> save_shared(const Task& task, const proc::ProcDir& dir, const AddressSpace& space);

  // A memfd, or another object that is not (only) mapped.
  [[nodiscard]] Result<> save_object(const MemoryObject& object);

  const PageCounts& counts() const { return counts_; }

 private:
  Result<std::vector<PageRun>> find_runs(const proc::ProcDir& dir, const AddressSpace& space);
  [[nodiscard]] Result<> write_pagemap(const images::ImageType& type, std::uint64_t number,
                                       std::uint64_t pages_number, const std::vector<PageRun>& runs);

  DumpContext& context_;
  const sys::Features& features_;
  std::uint64_t next_pages_number_ = 1;
  std::set<std::uint64_t> saved_objects_;
  PageCounts counts_;
};

}  // namespace dormouse::engine
