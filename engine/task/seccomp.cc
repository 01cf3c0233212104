#include "engine/task/seccomp.h"

#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "base/format.h"
#include "images/schema/task.pb.h"
#include "kernel/ptrace.h"

namespace dormouse::engine {
namespace {

// The kernel refuses longer programs, and a chain of more than 32768 instructions (kernel/seccomp.c).
constexpr std::size_t kMaxInstructions = BPF_MAXINSNS, kMaxFilters = 4096;

std::string_view bytes_of(const std::vector<sock_filter>& code) {
  return {reinterpret_cast<const char*>(code.data()), code.size() * sizeof(sock_filter)};
}

// struct sock_fprog as the kernel wants it: the pointer is filled in when the program is placed.
struct KernelProgram {
  std::uint16_t length;
  std::uint16_t padding[3];
  std::uint64_t code;
};

void append_filter(parasite::Program& program, const pb::seccomp_filter& filter, std::size_t position) {
  const std::string& code = filter.filter();
  const parasite::DataRef instructions = program.data(std::as_bytes(std::span(code)));
  const KernelProgram header{static_cast<std::uint16_t>(code.size() / sizeof(sock_filter)), {}, 0};
  const parasite::DataRef descriptor = program.value(header);
  program.point(descriptor + offsetof(KernelProgram, code), instructions);
  program.call(format("seccomp filter {} (CAP_SYS_ADMIN)", position), SYS_seccomp,
               {SECCOMP_SET_MODE_FILTER, filter.flags(), descriptor}, parasite::exactly(0));
}

// Whether the filter may leave a decision to a process that listens on a descriptor.
bool asks_supervisor(const std::vector<sock_filter>& code) {
  return std::ranges::any_of(code, [](const sock_filter& step) {
    return step.code == (BPF_RET | BPF_K) && (step.k & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_USER_NOTIF;
  });
}

}  // namespace

bool SeccompState::Filter::operator==(const Filter& other) const {
  return flags == other.flags && bytes_of(code) == bytes_of(other.code);
}

Result<SeccompState> read_seccomp(pid_t tid, std::uint32_t mode) {
  SeccompState state;
  state.mode = mode;
  if (mode != SECCOMP_MODE_FILTER) return state;
  // The kernel counts from the oldest (kernel/seccomp.c: get_nth_filter).
  for (unsigned long nth = 0;; ++nth) {
    Result<std::vector<sock_filter>> code = sys::ptrace::seccomp_get_filter(tid, nth);
    if (!code && code.error().is_kernel(ENOENT)) return state;
    if (!code)
      return fail(std::move(code).error().object(format("seccomp filter {}", nth)).remedy(
          "reading filters needs CAP_SYS_ADMIN and a kernel with CONFIG_CHECKPOINT_RESTORE"));
    if (asks_supervisor(*code))
      return fail(Error::unsupported("it asks a supervisor (SECCOMP_RET_USER_NOTIF), who could not be found again")
                      .object(format("seccomp filter {}", nth))
                      .remedy("run the container with a profile without SCMP_ACT_NOTIFY"));
    const auto flags = TRY(sys::ptrace::seccomp_get_metadata(tid, nth));
    state.filters.push_back({std::move(*code), static_cast<std::uint32_t>(flags)});
  }
}

SeccompTable::SeccompTable() : entry_(std::make_unique<pb::seccomp_entry>()) {}
SeccompTable::~SeccompTable() = default;

// In the image a chain begins with the filter to be installed first, and a record's `prev` is the one to be
// installed after the record that names it: a thread's index names the oldest.
std::uint32_t SeccompTable::add(const std::vector<SeccompState::Filter>& chain, std::uint32_t more_flags) {
  std::string key = format("{:x}:", more_flags);
  for (const auto& filter : chain) {
    key += format("{:x},{}:", filter.flags, filter.code.size());
    key += bytes_of(filter.code);
  }
  if (const auto found = known_.find(key); found != known_.end()) return found->second;
  const int before = entry_->seccomp_filters_size();
  for (std::size_t i = chain.size(); i-- > 0;) {
    const int index = entry_->seccomp_filters_size();
    pb::seccomp_filter& filter = *entry_->add_seccomp_filters();
    filter.set_filter(std::string(bytes_of(chain[i].code)));
    filter.set_flags(chain[i].flags | more_flags);
    if (index != before) filter.set_prev(static_cast<std::uint32_t>(index - 1));
  }
  const auto first = static_cast<std::uint32_t>(entry_->seccomp_filters_size() - 1);
  known_.emplace(std::move(key), first);
  return first;
}

void SeccompTable::save(std::span<const SeccompState> threads, std::span<pb::thread_core_entry* const> to) {
  const SeccompState& leader = threads.front();
  const bool all_equal = leader.mode == SECCOMP_MODE_FILTER &&
                         std::ranges::all_of(threads, [&](const SeccompState& thread) {
                           return thread.mode == leader.mode && thread.filters == leader.filters;
                         });
  for (std::size_t i = 0; i < threads.size(); ++i) {
    const SeccompState& thread = threads[i];
    if (thread.mode == SECCOMP_MODE_DISABLED || (all_equal && i > 0)) continue;
    to[i]->set_seccomp_mode(static_cast<pb::seccomp_mode>(thread.mode));
    if (thread.mode == SECCOMP_MODE_FILTER)
      to[i]->set_seccomp_filter(add(thread.filters, all_equal ? SECCOMP_FILTER_FLAG_TSYNC : 0));
  }
}

Result<> SeccompTable::write(images::OutputDirectory& out) const {
  return out.write(images::kSeccomp, std::nullopt, *entry_);
}

Result<> append_seccomp(parasite::Program& program, const pb::thread_core_entry& from,
                        const pb::seccomp_entry* table) {
  switch (from.seccomp_mode()) {
    case pb::disabled:
      return {};
    case pb::strict:
      program.call("strict seccomp mode", SYS_prctl, {PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0});
      return {};
    case pb::filter:
      break;
  }
  std::uint32_t index = from.seccomp_filter();
  for (std::size_t position = 0; position < kMaxFilters; ++position) {
    if (table == nullptr || index >= static_cast<std::uint32_t>(table->seccomp_filters_size()))
      return fail(Error::corrupt(format("there is no seccomp filter {}", index)));
    const pb::seccomp_filter& filter = table->seccomp_filters(static_cast<int>(index));
    const std::size_t bytes = filter.filter().size();
    if (bytes == 0 || bytes % sizeof(sock_filter) != 0 || bytes / sizeof(sock_filter) > kMaxInstructions)
      return fail(Error::corrupt(format("seccomp filter {} is {} bytes long", index, bytes)));
    append_filter(program, filter, position);
    if (!filter.has_prev()) return {};
    index = filter.prev();
  }
  return fail(Error::corrupt("a chain of seccomp filters without an end"));
}

}  // namespace dormouse::engine
