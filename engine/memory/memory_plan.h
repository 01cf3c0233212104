// How one puppet's address space becomes what the image says. Pure: from records to steps.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "base/error.h"
#include "engine/memory/chunks.h"
#include "engine/memory/inheritance.h"
#include "engine/memory/vdso.h"
#include "engine/plan/image.h"
#include "parasite/host/program.h"

namespace dormouse::engine {

// Whether the child was forked from the parent and has not executed another program since, so that
// pages they still share are to be shared again.
bool inherits_memory(const ImageTask& parent, const ImageTask& child);

// An address range free in every task of the image and in none of `also_taken`, of `bytes`: where 32-bit code can
// reach it if a task of the image has that.
Result<std::uint64_t> find_common_hole(const Image& image, std::span<const pb::vma_entry> also_taken,
                                       std::uint64_t bytes);

// Where the files of a plan are in the puppet's descriptor table while it maps them.
struct MemoryFiles {
  std::vector<int> pages;   // parallel to MemoryPlan::page_files()
  int executable = -1;      // -1: the puppet has it already
  std::vector<int> files;   // parallel to MemoryPlan::files()
  std::vector<int> shared;  // parallel to MemoryPlan::shared()
};

// A file to be mapped: its id in files.img, and the access mode (O_*) the mapping needs, which decides what
// mprotect() will allow on it.
struct MappedFile {
  std::uint32_t id = 0, flags = 0;
  friend auto operator<=>(const MappedFile&, const MappedFile&) = default;
};

class MemoryPlan {
 public:
  // `inherited_from`: the task whose finished address space the puppet is a copy of, with its vdso, or null if
  // it holds nothing but the area. `scratch`: address of kPageChunkBytes of memory that the puppet may map for
  // itself.
  struct Origin {
    const ImageTask* task = nullptr;
    const VdsoPlan* vdso = nullptr;
  };
  static Result<MemoryPlan> make(const ImageTask& task, VdsoPlan vdso, const Origin& inherited_from,
                                 std::uint64_t scratch);

  const std::vector<MappedFile>& files() const { return files_; }
  const std::vector<std::uint64_t>& shared() const { return shared_; }  // shmids
  const std::vector<std::uint32_t>& page_files() const { return page_files_; }  // in Image::page_files
  const std::vector<Chunk>& chunks() const { return chunks_; }
  std::uint64_t bytes() const { return bytes_; }

  // 1: takes away what does not belong, sets the kernel's record of the address space (PR_SET_MM_MAP), and
  // maps what is missing, writable where it is to be filled.
  void append_map(parasite::Program& program, const MemoryFiles& fds) const;
  // 2: loads chunks [first, last): any number of threads may do so at once. Adds, for each that is loaded, the
  // operation whose result is its checksum.
  struct Loaded {
    std::size_t chunk;
    parasite::OpRef checksum;
  };
  void append_fill(parasite::Program& program, const MemoryFiles& fds, std::size_t first, std::size_t last,
                   std::vector<Loaded>& loaded) const;
  // Leaves out the chunks that the puppet has inherited as they are to be: of the same pages, with the same checksum, as one
  // that its parent has loaded. `checksum_of`: as the images say, nothing where they do not.
  void leave_out_inherited(const MemoryPlan& parent,
                           const std::function<std::optional<std::uint64_t>(const Chunk&)>& checksum_of);
  // Chunks that need the scratch memory are filled by one thread only.
  bool needs_scratch(std::size_t chunk) const { return chunk_scratch_[chunk]; }
  // 3: final protections and locks, scratch gone.
  void append_seal(parasite::Program& program) const;
  // 1 and 3 in slices, which a program each is to be made of: [0, map_slices()), in order.
  std::size_t map_slices() const { return std::max<std::size_t>(1, (sources_.size() + kSlice - 1) / kSlice); }
  void append_map_slice(parasite::Program& program, const MemoryFiles& fds, std::size_t slice) const;
  void append_seal_slice(parasite::Program& program, std::size_t slice) const;
  // 4: what must not act on children born from this address space: advice, guards.
  void append_late_advice(parasite::Program& program) const;

 private:
  static constexpr std::size_t kSlice = 1024;  // mappings
  struct Source {
    enum class Kind { kAnonymous, kFile, kShared, kSkip, kInherited } kind = Kind::kAnonymous;
    std::size_t index = 0;         // into files_ or shared_
    std::uint32_t protection = 0;  // kInherited: the parent's
    std::uint64_t end = 0;         // kInherited: of the parent's, where the mapping has grown since; else 0
  };
  const pb::vma_entry& vma(std::size_t i) const { return task_->mm->vmas(static_cast<int>(i)); }
  void choose_sources(const Origin& origin);
  bool writable_for_filling(std::size_t i) const;
  std::uint32_t protection_for_filling(std::size_t i) const;
  bool is_kept(std::uint64_t address) const;
  bool is_inherited(const Chunk& chunk) const;
  bool uses_scratch() const;
  void append_layout(parasite::Program& program, const MemoryFiles& fds) const;
  void append_map_begin(parasite::Program& program, const MemoryFiles& fds) const;
  void append_map_end(parasite::Program& program) const;
  std::size_t end_of_run(std::size_t i, std::size_t last) const;
  void append_run(parasite::Program& program, std::size_t first, std::size_t end) const;
  void append_one_map(parasite::Program& program, std::size_t i, const MemoryFiles& fds) const;
  void append_lock(parasite::Program& program, std::size_t i) const;
  static void append_populate(parasite::Program& program, const std::vector<Piece>& pieces);
  void append_guard(parasite::Program& program, const pb::vma_entry& guard) const;

  const ImageTask* task_ = nullptr;
  VdsoPlan vdso_;
  std::uint64_t scratch_ = 0;
  std::vector<Source> sources_;         // per vma; guards, which come last, have none
  std::vector<bool> has_pages_;         // per vma
  std::vector<AddressRange> unmap_, stale_, kept_;  // kept_: not to be written, whatever pages there are
  std::vector<MappedFile> files_;
  std::vector<std::uint64_t> shared_;
  std::vector<std::uint32_t> page_files_;
  std::vector<Chunk> chunks_;
  std::vector<bool> chunk_scratch_, chunk_left_out_;
  std::uint64_t bytes_ = 0;
};

}  // namespace dormouse::engine
