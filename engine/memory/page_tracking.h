// Which private pages of a task were written since an earlier dump.
//
// Two ways, whichever the kernel has: soft-dirty bits (clear_refs), or write protection that the kernel lifts at the
// first write (kernel/userfaultfd.h), whose descriptors a warden keeps between dumps (warden.h). A page counts as
// clean only if the kernel says so itself and nothing else could explain it: mappings that are new, moved or not
// protected by us, children, executed programs, and everything whose history is in doubt are written.
#pragma once

#include <mutex>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/log.h"
#include "engine/memory/warden.h"
#include "engine/tree.h"
#include "kernel/abi.h"
#include "kernel/features.h"
#include "kernel/proc/directory.h"
#include "parasite/host/held_process.h"

namespace dormouse::engine {

enum class TrackingMethod : std::uint8_t { kNone, kSoftDirty, kWriteProtection };
TrackingMethod tracking_method(const sys::Features& features);

// Anonymous private memory. Private pages of files are few, and their protection marks would outlive
// madvise(MADV_DONTNEED) and look like content: they always count as written.
bool can_be_protected(const proc::Vma& vma);
// `regions` with kPageIsWritten wherever one of `written` touches, cut where it begins and ends. Both ascending and
// disjoint.
std::vector<abi::PageRegion> mark_written(const std::vector<abi::PageRegion>& regions,
                                          const std::vector<abi::PageRegion>& written);

// What PAGEMAP_SCAN finds in one go.
struct FoundPages {
  std::vector<abi::PageRegion> content;  // as of PageTracking::content(), all of it written
  std::vector<abi::PageRegion> guards;   // MADV_GUARD_INSTALL
};
// Needs Feature::kPagemapScan. The task is stopped.
Result<FoundPages> find_pages(const proc::ProcDir& dir, const sys::Features& features);

class PageTracking {
 public:
  // `features` and `log` outlive this object.
  PageTracking(const sys::Features& features, Log& log)
      : features_(features), log_(log), method_(tracking_method(features)) {}

  // Finds what earlier dumps left running; better done before tasks are stopped.
  void look();
  bool possible() const { return method_ != TrackingMethod::kNone; }
  // Whether a task's mappings tell that it is tracked (is_ours()). Else whoever is to end it has to look.
  bool shows_in_mappings() const { return method_ != TrackingMethod::kSoftDirty; }
  // Write protection in this task's mappings is that of an earlier dump, not the task's own business. Any thread may ask
  // while nothing else is asked.
  Result<bool> is_ours(const Task& task);
  // Whether the task has been tracked since the images of this generation.
  Result<bool> tracked_since(const Task& task, const std::string& generation);

  // Which calls the threads wait in, for the next round; and for this one, where an earlier one knew it better than the
  // kernel does. All threads are in ptrace stops.
  [[nodiscard]] Result<> follow_calls(const Task& task, parasite::HeldProcess& held);

  // From here on to the end of the round, pages may be asked for and marked anew. All threads are stopped.
  // A task that is to be tracked must have its descriptor first: it serves the interpreter then.
  Result<bool> needs_descriptor(const Task& task);
  [[nodiscard]] Result<> make_descriptor(const Task& task, parasite::Keeper& keeper, parasite::HeldProcess& held);
  // Content of the task's own (no pages of files, no zero pages), with kPageIsWritten where it was written or might
  // have been. `again`: marks are taken, so that the next round finds what is written from now on.
  Result<std::vector<abi::PageRegion>> content(const Task& task, const proc::ProcDir& dir,
                                               std::span<const proc::Vma> maps, bool again);

  // After the images are sealed: tracking goes on, for a dump that builds on `generation`.
  [[nodiscard]] Result<> go_on(const std::string& generation);
  // Nothing of it is left, in the tasks or elsewhere.
  [[nodiscard]] Result<> end();

 private:
  struct State {
    TrackedTask task;
    Warden* warden = nullptr;  // of the earlier round
    std::string since;         // what that one said at first
    std::uint32_t vm_id = 0;   // Task::vm_id
  };
  Result<State*> state_of(const Task& task);
  [[nodiscard]] Result<> invalidate_earlier();
  [[nodiscard]] Result<> end_earlier();
  [[nodiscard]] Result<> share(const Task& owner, const State& state);
  void protect(const State& state, std::span<const proc::Vma> maps);
  Result<std::vector<abi::PageRegion>> take_marks(const proc::ProcDir& dir, std::span<const proc::Vma> maps) const;

  const sys::Features& features_;
  Log& log_;
  TrackingMethod method_;
  bool looked_ = false;
  std::vector<std::unique_ptr<Warden>> wardens_;  // those that track one of our tasks
  std::vector<std::unique_ptr<Warden>> others_;
  std::vector<std::unique_ptr<State>> states_;
  std::vector<InterruptedCall> calls_;
  std::mutex asking_;
};

}  // namespace dormouse::engine
