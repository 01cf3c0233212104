#include "engine/memory/memory_policy.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/format.h"
#include "base/pages.h"
#include "engine/memory/vma_kind.h"

namespace dormouse::engine {
namespace {

namespace s = vma_status;
constexpr std::size_t kNodes = 1024;             // MAX_NUMNODES of x86-64 at most
constexpr std::uint64_t kNodesGiven = kNodes + 1;  // get_nodes() in mm/mempolicy.c takes one less
constexpr std::size_t kMappingsPerProgram = 4096, kNodesPerProgram = 1024;

struct Answer {
  std::int32_t mode = 0, pad = 0;
  std::array<char, kNodes / 8> nodes{};
};

void save(const Answer& answer, pb::memory_policy_entry& to) {
  to.set_mode(static_cast<std::uint32_t>(answer.mode));
  std::string nodes(answer.nodes.begin(), answer.nodes.end());
  nodes.resize(nodes.find_last_not_of('\0') + 1);  // npos + 1 is 0
  if (!nodes.empty()) to.set_nodes(nodes);
}

parasite::DataRef place_nodes(parasite::Program& program, const pb::memory_policy_entry& policy) {
  std::string nodes = policy.nodes();
  nodes.resize(kNodes / 8);
  return program.data(std::as_bytes(std::span(nodes)));
}

bool may_have_policy(const pb::vma_entry& vma) {
  return !(vma.status() & (s::kVsyscall | s::kVdso | s::kVvar | s::kGuard));
}

}  // namespace

parasite::DataRef ask_thread_policy(parasite::Program& program) {
  const auto answer = program.zeros(sizeof(Answer));
  // ENOSYS: a kernel for machines with one node.
  program.call("ask for the memory policy", SYS_get_mempolicy, {answer, answer + offsetof(Answer, nodes), kNodes, 0, 0},
               parasite::anything());
  return answer;
}

void save_thread_policy(const parasite::Placed& placed, parasite::DataRef asked, pb::thread_attributes_entry& to) {
  const auto answer = placed.value<Answer>(asked);
  if (answer.mode != MPOL_DEFAULT) save(answer, *to.mutable_memory_policy());
}

void save_own_policy(pb::thread_attributes_entry& to) {
  Answer answer;
  const long got = ::syscall(SYS_get_mempolicy, &answer.mode, answer.nodes.data(), kNodes, 0, 0);
  if (got == 0 && answer.mode != MPOL_DEFAULT) save(answer, *to.mutable_memory_policy());
}

void append_thread_policy(parasite::Program& program, const pb::thread_attributes_entry& from,
                          const pb::thread_attributes_entry& own) {
  const pb::memory_policy_entry& policy = from.memory_policy();
  const bool same = from.has_memory_policy() == own.has_memory_policy() && policy.mode() == own.memory_policy().mode() &&
                    policy.nodes() == own.memory_policy().nodes();
  if (same) return;
  // EINVAL: none of the nodes is here. As with CPUs, the node decides then.
  program.call(format("memory policy {}", policy_text(policy)), SYS_set_mempolicy,
               {policy.mode(), place_nodes(program, policy), kNodesGiven}, parasite::ok_or(EINVAL));
}

bool PolicyQuestions::ask(parasite::Program& program, std::span<const pb::vma_entry> vmas) {
  asked_.clear();
  asked_for_nodes_ = next_ == vmas.size();
  if (asked_for_nodes_) {
    while (!with_policy_.empty() && asked_.size() < kNodesPerProgram) {
      asked_.push_back(with_policy_.back());
      with_policy_.pop_back();
    }
  }
  for (; next_ < vmas.size() && asked_.size() < kMappingsPerProgram; ++next_)
    if (may_have_policy(vmas[next_])) asked_.push_back(next_);
  const std::uint32_t bytes = asked_for_nodes_ ? sizeof(Answer) : sizeof(std::int32_t);
  answers_ = program.zeros(asked_.size() * bytes);
  for (std::uint32_t i = 0; i < asked_.size(); ++i) {
    const auto answer = answers_ + i * bytes;
    const auto nodes = answer + offsetof(Answer, nodes);
    program.call("policy", SYS_get_mempolicy,
                 {answer, asked_for_nodes_ ? parasite::Value(nodes) : parasite::Value(0), asked_for_nodes_ ? kNodes : 0,
                  vmas[asked_[i]].start(), MPOL_F_ADDR},
                 parasite::anything());
  }
  return !asked_.empty();
}

void PolicyQuestions::take(const parasite::Placed& placed, std::span<const pb::vma_entry> vmas,
                           pb::memory_attributes_entry& to) {
  for (std::uint32_t i = 0; i < asked_.size(); ++i) {
    const pb::vma_entry& vma = vmas[asked_[i]];
    if (!asked_for_nodes_) {
      if (placed.value<std::int32_t>(answers_ + i * std::uint32_t{sizeof(std::int32_t)}) != MPOL_DEFAULT)
        with_policy_.push_back(asked_[i]);
      continue;
    }
    pb::range_policy_entry& range = *to.add_policies();
    range.set_start(vma.start());
    range.set_end(vma.end());
    save(placed.value<Answer>(answers_ + i * std::uint32_t{sizeof(Answer)}), *range.mutable_policy());
  }
  asked_.clear();
}

Result<> check_memory_policies(const pb::memory_attributes_entry& entry) {
  for (const pb::range_policy_entry& range : entry.policies())
    if (!is_page_range(range.start(), range.end()))
      return fail(Error::corrupt(format("range {:x}-{:x} with a memory policy is not a valid range", range.start(), range.end())));
  return {};
}

// Pages stay where they are: those that come follow the policy.
void append_memory_policies(parasite::Program& program, const pb::memory_attributes_entry& entry) {
  for (const pb::range_policy_entry& range : entry.policies())
    program.call(format("memory policy {} for {:x}-{:x}", policy_text(range.policy()), range.start(), range.end()), SYS_mbind,
                 {range.start(), range.end() - range.start(), range.policy().mode(), place_nodes(program, range.policy()),
                  kNodesGiven, 0},
                 parasite::ok_or(EINVAL));
}

std::string policy_text(const pb::memory_policy_entry& policy) {
  std::string nodes;
  for (std::size_t node = 0; node < 8 * policy.nodes().size(); ++node)
    if (static_cast<unsigned char>(policy.nodes()[node / 8]) >> node % 8 & 1)
      nodes += format("{}{}", nodes.empty() ? "" : ",", node);
  return format("{:#x} on {}", policy.mode(), nodes.empty() ? "no nodes" : "nodes " + nodes);
}

}  // namespace dormouse::engine
