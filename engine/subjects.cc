#include "engine/subjects.h"

#include <algorithm>
#include <utility>

#include "base/parallel.h"
#include "engine/memory/page_tracking.h"

namespace dormouse::engine {
namespace {

// Programs and their answers are large, but soon read.
constexpr std::size_t kAskedAtOnce = 64;
// Threads and processes to look at: of a process with much memory, smaps alone takes milliseconds.
constexpr std::size_t kWorthAThread = 4;

}  // namespace

std::vector<Subjects::Part> Subjects::parts() {
  std::vector<Part> parts;
  for (Subject& subject : subjects_) {
    parts.push_back({&subject, std::nullopt});
    for (std::size_t t = 0; t < subject.state.thread_count(); ++t) parts.push_back({&subject, t});
  }
  return parts;
}

Result<> Subjects::read(StoppedTree& stopped, const sys::Features& features, SeccompTable& filters) {
  for (std::size_t i = 0; i < stopped.tree.tasks.size(); ++i) {
    Task& task = *stopped.tree.tasks[i];
    if (!stopped.held[i]) continue;
    auto& held = *stopped.held[i];
    TRY(held.capture_contexts());
    TRY(context_.tracking->follow_calls(task, held));
    subjects_.push_back({task, *stopped.dirs[i], held, {}, TaskDump(context_, task, held, filters)});
  }
  const std::vector<Part> work = parts();
  // Of several, one's reading leaves time for another's; and they may have pages in common.
  const auto content = subjects_.size() == 1 ? AddressSpace::Content::kWhileReading : AddressSpace::Content::kLater;
  std::vector<Result<>> read(work.size());
  memberships_.resize(work.size());
  TRY(in_parallel(work.size(), [&](std::size_t i) -> Result<> {
    auto& [subject, thread] = work[i];
    if (thread) read[i] = read_thread(*subject, *thread, memberships_[i]);
    else subject->space = TRY(AddressSpace::read(context_, subject->task, subject->dir, features, content));
    return {};
  }, kWorthAThread));
  // Every process's failures, but only the first of each.
  const Subject* failed = nullptr;
  for (std::size_t i = 0; i < work.size(); ++i) {
    const auto& [subject, thread] = work[i];
    if (!thread) subject->space.report(context_.blockers);
    if (failed != subject && !context_.blockers.note(std::move(read[i]))) failed = subject;
    if (failed != subject && thread && *thread + 1 == subject->state.thread_count())
      context_.blockers.note(subject->state.read_traced());
  }
  return {};
}

// A thread's files are found faster from its own directory than from its process's.
Result<> Subjects::read_thread(Subject& subject, std::size_t thread, cgroups::SavedCgroups::Membership& membership) {
  const auto dir = TRY(subject.dir.thread(subject.held.threads()[thread]->tid()));
  membership = TRY(cgroups::SavedCgroups::membership_of(dir));
  return subject.state.read_files(thread, dir);
}

// Of a tree of few processes all are asked as they are entered: their threads need not be woken for it.
std::vector<const parasite::Program*> Subjects::first_programs(Subject& subject) {
  std::vector<const parasite::Program*> first;
  if (subjects_.size() > kAskedAtOnce) return first;
  subject.state.ask();
  for (std::size_t t = 0; t < subject.state.thread_count(); ++t) first.push_back(&subject.state.program(t));
  return first;
}

Result<> Subjects::enter() {
  constexpr std::size_t kAtOnce = 32;
  parasite::GadgetFinder finder;
  std::vector<parasite::HeldProcess::Entry> entries;
  const auto enter_all = [&] { return parasite::HeldProcess::enter_together(keeper_, finder, std::exchange(entries, {})); };
  for (Subject& subject : subjects_) {
    if (!subject.task.owns_vm || entries.size() == kAtOnce) TRY(enter_all());
    // Where one address space has several processes, the areas of those before are in it by now.
    if (!subject.task.owns_vm) TRY(enter_shared(finder, subject));
    else entries.push_back({&subject.held, subject.dir.fd(), subject.space.maps(), subject.state.program_bytes(), first_programs(subject)});
  }
  return enter_all();
}

Result<> Subjects::enter_shared(parasite::GadgetFinder& finder, Subject& subject) {
  const auto maps = TRY_OR(subject.dir.maps(), std::move(e).owner(subject.task.name()));
  return subject.held.enter(finder, subject.dir.fd(), maps, subject.state.program_bytes(), first_programs(subject));
}

Result<> Subjects::ask() {
  for (std::size_t from = 0; from < subjects_.size(); from += kAskedAtOnce) {
    const auto some = all().subspan(from, std::min(kAskedAtOnce, subjects_.size() - from));
    TRY(ask_about_tasks(some));
    TRY(ask_about_memory(some));
    TRY(ask_more_about_memory(some));
    for (Subject& subject : some) TRY(subject.state.mark_expired_timers(keeper_));
    for (Subject& subject : some) TRY(subject.state.count_overruns(keeper_));
    for (Subject& subject : some) context_.blockers.note(subject.state.refuse_restrictions(keeper_));
    for (Subject& subject : some) subject.held.area().let_go_of_pages();
  }
  return {};
}

Result<> Subjects::ask_about_tasks(std::span<Subject> some) {
  parasite::Batch batch(keeper_);
  for (Subject& subject : some) {
    if (subject.held.ran_first()) continue;
    subject.state.ask();
    for (std::size_t t = 0; t < subject.state.thread_count(); ++t)
      TRY(batch.add(subject.held, *subject.held.threads()[t], subject.state.program(t)));
  }
  TRY(batch.run());
  std::size_t job = 0;
  for (Subject& subject : some) {
    const bool at_once = subject.held.ran_first();
    for (std::size_t t = 0; t < subject.state.thread_count(); ++t)
      TRY(subject.state.take(t, at_once ? subject.held.first(t) : batch.placed(job++)));
    if (at_once) subject.held.drop_first();
    subject.state.drop_programs();
  }
  return {};
}

Result<> Subjects::ask_about_memory(std::span<Subject> some) {
  std::vector<parasite::Program> programs(some.size());
  parasite::Batch batch(keeper_);
  for (std::size_t i = 0; i < some.size(); ++i) {
    some[i].space.ask(programs[i], some[i].held.area());
    TRY(batch.add(some[i].held, some[i].held.leader(), programs[i]));
  }
  TRY(batch.run());
  for (std::size_t i = 0; i < some.size(); ++i) {
    TRY_OR(some[i].space.take(batch.placed(i), some[i].dir, some[i].held.area()),
           std::move(e).owner(some[i].task.name()));
    some[i].held.area().rewind();
  }
  return {};
}

// Where one program is not enough: of thousands of mappings.
Result<> Subjects::ask_more_about_memory(std::span<Subject> some) {
  for (;;) {
    std::vector<parasite::Program> programs(some.size());
    std::vector<std::pair<Subject*, std::size_t>> asked;
    parasite::Batch batch(keeper_);
    for (std::size_t i = 0; i < some.size(); ++i)
      if (Subject& subject = some[i]; subject.space.ask_more(programs[i]))
        asked.emplace_back(&subject, TRY(batch.add(subject.held, subject.held.leader(), programs[i])));
    if (asked.empty()) return {};
    TRY(batch.run());
    for (const auto& [subject, job] : asked) {
      subject->space.take_more(batch.placed(job));
      subject->held.area().rewind();
    }
  }
}

Result<> Subjects::find_cgroups(cgroups::SavedCgroups& cgroups) {
  const std::vector<Part> work = parts();
  for (std::size_t i = 0; i < work.size(); ++i) {
    const auto& [subject, thread] = work[i];
    if (thread)
      subject->state.set_cgroup_set(*thread, TRY(cgroups.set_of(subjects_.front().dir, std::move(memberships_[i]))));
  }
  return {};
}

Result<> Subjects::write() {
  for (Subject& subject : subjects_) TRY(subject.state.begin_write());
  const std::vector<Part> work = parts();
  return in_parallel(work.size(), [&](std::size_t i) -> Result<> {
    auto& [subject, thread] = work[i];
    if (thread) return subject->state.write_thread(*thread);
    TRY(subject->space.write(context_, subject->task));
    return subject->state.write_process();
  });
}

std::vector<std::uint64_t> Subjects::restartable_areas(const Task& owner) const {
  std::vector<std::uint64_t> areas;
  for (const Subject& subject : subjects_) {
    if (subject.task.vm_id != owner.vm_id) continue;
    for (const std::uint64_t area : subject.state.restartable_areas()) areas.push_back(area);
  }
  return areas;
}

}  // namespace dormouse::engine
