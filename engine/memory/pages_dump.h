// Saving page contents: pagemap-N.img says which, pages-N.img holds the bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "engine/dump_context.h"
#include "engine/ipc/system_v.h"
#include "engine/memory/address_space.h"
#include "engine/memory/chunks.h"
#include "engine/memory/early_pages.h"
#include "engine/memory/page_tracking.h"
#include "engine/memory/parent_pages.h"
#include "engine/memory/shared_pages.h"
#include "parasite/host/held_process.h"

namespace dormouse::engine {

struct PageCounts {
  std::uint64_t scanned = 0, written = 0, in_parent = 0;  // private pages
  std::uint64_t shared_scanned = 0, shared_written = 0;  // of shared objects
};

// What may be left out, and whether the next dump is to build on this one.
struct PageHistory {
  PageTracking& tracking;
  const ParentPages* parent = nullptr;
  bool again = false;  // take marks, for the next dump
};

class PagesDump {
 public:
  static constexpr std::uint64_t kFirstNumber = 1;  // of page files: that of the first process
  PagesDump(DumpContext& context, PageHistory history) : context_(context), history_(history) {}

  // Which private pages of a process are content, and where each will be. All its threads are stopped. Several threads of
  // the engine may ask, each for another task.
  Result<std::vector<PageRun>> find_runs(const Task& task, const proc::ProcDir& dir, const AddressSpace& space);
  struct Memory {
    const Task& task;
    const proc::ProcDir& dir;
    const AddressSpace& space;
    parasite::HeldProcess& held;  // in the interpreter
    std::vector<std::uint64_t> changing;  // where the kernel writes meanwhile: TaskDump::restartable_areas of all sharers
    std::optional<EarlyPages::Copied> early;  // only if it is the first: in the page file kFirstNumber
    std::uint64_t pages = 0;  // out: how many it has
  };
  // The private pages of processes that are stopped. Each that has many writes them itself, one after the other; those
  // that are the same in several, and of processes with few, are copied by the engine's threads.
  [[nodiscard]] Result<> save(parasite::Keeper& keeper, std::span<Memory> all);
  // Shared anonymous memory, each object of the tree once.
  [[nodiscard]] Result<> save_shared(const Task& task, const proc::ProcDir& dir, const AddressSpace& space);
  // System V shared memory, attached or not.
  [[nodiscard]] Result<> save_segment(const SavedSegment& segment);

  // As save(), of a process that runs: pages found by find_runs() are read behind its back. `memory`: its
  // /proc/PID/mem, opened while it was stopped. What it has unmapped since (all, if it has ended) is left out; what it
  // changes meanwhile counts as written for the next dump.
  [[nodiscard]] Result<> save_behind(const Task& task, int memory, const std::vector<PageRun>& runs);

  // A memfd, or another object that is not (only) mapped.
  [[nodiscard]] Result<> save_object(const MemoryObject& object);

  const PageCounts& counts() const { return counts_; }
  bool uses_parent() const { return counts_.in_parent != 0; }

 private:
  struct Content;
  Result<Content> find_content(Memory& memory, std::uint64_t number);
  // `keeper`: of the tasks; null: the engine copies.
  [[nodiscard]] Result<> save_content(Memory& memory, Content& content, parasite::Keeper* keeper);
  // Of processes that have about the same pages.
  [[nodiscard]] Result<> save_common(std::span<Memory> all, std::vector<std::optional<Content>>& large);
  [[nodiscard]] Result<> begin_content(Memory& memory, Content& content);
  [[nodiscard]] Result<> finish_content(const Content& content, std::vector<std::uint64_t> sums);
  [[nodiscard]] Result<> write_pagemap(const images::ImageType& type, std::uint64_t number,
                                       std::uint64_t pages_number, const std::vector<PageRun>& runs);

  DumpContext& context_;
  PageHistory history_;
  std::uint64_t next_pages_number_ = kFirstNumber;
  std::set<std::uint64_t> saved_objects_;
  PageCounts counts_;
  std::mutex counting_;
};

}  // namespace dormouse::engine
