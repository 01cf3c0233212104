// One process's address space, on its way into mm-N.img.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "engine/dump_context.h"
#include "engine/files/files_dump.h"
#include "engine/memory/early_pages.h"
#include "engine/memory/memory_policy.h"
#include "images/schema/attributes.pb.h"
#include "images/schema/memory.pb.h"
#include "kernel/abi.h"
#include "kernel/features.h"
#include "kernel/proc/directory.h"
#include "parasite/host/area.h"

namespace dormouse::engine {

class AddressSpace {
 public:
  // From /proc, with the task stopped and before it enters the interpreter (whose area is not the task's).
  // Several threads of the engine may do so, each for another task.
  // `content`: whether pages may be copied on the way, as they are now.
  enum class Content { kLater, kWhileReading };
  static Result<AddressSpace> read(const DumpContext& context, const Task& task, const proc::ProcDir& dir,
                                   const sys::Features& features, Content content);
  // Whether a uprobe has been in it, which options allow (allow_uprobes).
  bool probed() const { return probed_; }
  // Mappings that cannot be saved.
  void report(Blockers& blockers);

  std::span<const proc::Vma> maps() const { return maps_; }
  // Which private pages have content, where that is known already: a dump that is part of no series has no reason to wait.
  const std::optional<std::vector<abi::PageRegion>>& content() const { return content_; }
  // What was copied, once; nothing where it was not worth it.
  std::optional<EarlyPages::Copied> take_early();
  const pb::mm_entry& image() const { return image_; }
  // For [vvar] and its neighbours being one record, and refused mappings and [uprobes] being none, these are fewer.
  std::span<const pb::vma_entry> vmas() const { return vmas_; }

  // What only the task knows: appends to its leader's program, then takes the answers.
  void ask(parasite::Program& program, const parasite::Area& area);
  [[nodiscard]] Result<> take(const parasite::Placed& placed, const proc::ProcDir& dir, const parasite::Area& area);
  // What did not fit into that: until it is false.
  bool ask_more(parasite::Program& program) { return policies_.ask(program, vmas_); }
  void take_more(const parasite::Placed& placed) { policies_.take(placed, vmas_, attributes_); }

  // Registers the executable and the mapped files, those of memory (memfds) apart from and before the others: shared
  // anonymous memory that somebody has open or maps as a file is one too.
  [[nodiscard]] Result<> save_memory_files(const Task& task, FilesDump& files);
  [[nodiscard]] Result<> save_files(const Task& task, FilesDump& files);
  // Writes mm-N.img.
  [[nodiscard]] Result<> write(DumpContext& context, const Task& task);

 private:
  [[nodiscard]] Result<> save_file(pb::vma_entry& vma, const Task& task, FilesDump& files) const;
  class Reading;
  [[nodiscard]] Result<> describe(const DumpContext& context, const Task& task, const proc::Vma& vma);
  [[nodiscard]] Result<> find_pages(const DumpContext& context, const proc::ProcDir& dir, const sys::Features& features);

  std::vector<proc::Vma> maps_;
  std::vector<abi::PageRegion> guards_;
  std::optional<std::vector<abi::PageRegion>> content_;
  std::optional<EarlyPages> early_;
  std::vector<pb::vma_entry> vmas_;
  pb::mm_entry image_;
  pb::memory_attributes_entry attributes_;
  PolicyQuestions policies_;
  std::optional<parasite::OpRef> keys_;  // whether protection keys are allocated
  std::vector<Error> refused_;
  bool probed_ = false;
  parasite::OpRef brk_, dumpable_, thp_, lock_;
  std::vector<std::pair<parasite::OpRef, pb::aio_ring_entry>> rings_;  // whether it is one
  std::vector<pb::aio_ring_entry> dead_rings_;
};

}  // namespace dormouse::engine
