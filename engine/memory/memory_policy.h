// From which nodes' memory pages are taken (NUMA): of a thread (set_mempolicy()) and of mappings (mbind()).
//
// Kernel: neither /proc/PID/smaps nor maps tells, and numa_maps counts all pages for it, so the task is asked: one call for a
// thread, one for a mapping. The home node that set_mempolicy_home_node() gives a mapping is told nowhere, and is lost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "images/schema/attributes.pb.h"
#include "images/schema/memory.pb.h"
#include "parasite/host/area.h"
#include "parasite/host/program.h"

namespace dormouse::engine {

// --- of a thread --------------------------------------------------------------------------------
parasite::DataRef ask_thread_policy(parasite::Program& program);
void save_thread_policy(const parasite::Placed& placed, parasite::DataRef asked, pb::thread_attributes_entry& to);
// The engine's own, which puppets are born with.
void save_own_policy(pb::thread_attributes_entry& to);
void append_thread_policy(parasite::Program& program, const pb::thread_attributes_entry& from,
                          const pb::thread_attributes_entry& own);

// --- of mappings --------------------------------------------------------------------------------
// First whether there is one, some thousand mappings in each program, then on which nodes: ask() and take() until
// there is nothing to ask.
class PolicyQuestions {
 public:
  // `vmas` is the same each time. False: nothing was appended.
  bool ask(parasite::Program& program, std::span<const pb::vma_entry> vmas);
  // Policies go into the address space's attributes.
  void take(const parasite::Placed& placed, std::span<const pb::vma_entry> vmas, pb::memory_attributes_entry& to);

 private:
  std::size_t next_ = 0;                 // mapping to ask about
  std::vector<std::size_t> with_policy_;  // mappings, whose nodes are not known yet
  std::vector<std::size_t> asked_;        // by the last program: mappings
  bool asked_for_nodes_ = false;
  parasite::DataRef answers_;
};
[[nodiscard]] Result<> check_memory_policies(const pb::memory_attributes_entry& entry);
void append_memory_policies(parasite::Program& program, const pb::memory_attributes_entry& entry);

// "0x2 on nodes 0,3", for errors.
std::string policy_text(const pb::memory_policy_entry& policy);

}  // namespace dormouse::engine
