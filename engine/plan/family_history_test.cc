// Families that random histories come to can be planned, and what is planned comes to the same family.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "base/format.h"
#include "engine/plan/family.h"

namespace dormouse::engine {
namespace {

// What the kernel does with parents and sessions. The first process is the init: it stays, and adopts who is left.
class Kernel {
 public:
  struct Process {
    std::uint32_t pid = 0;
    std::size_t parent = 0;
    std::uint32_t sid = 0;
    int exit_signal = SIGCHLD;
    bool subreaper = false, alive = true, collected = false;
  };
  explicit Kernel(std::uint32_t pid) : all_{{pid, 0, 0}} {}

  const Process& operator[](std::size_t index) const { return all_[index]; }
  std::size_t size() const { return all_.size(); }
  std::size_t bear(std::size_t index, std::uint32_t pid, int exit_signal) {
    EXPECT_TRUE(all_[index].alive);
    all_.push_back({pid, index, all_[index].sid, exit_signal});
    return all_.size() - 1;
  }
  // With CLONE_PARENT.
  std::size_t bear_sibling(std::size_t index, std::uint32_t pid) {
    EXPECT_TRUE(all_[index].alive);
    all_.push_back({pid, all_[index].parent, all_[index].sid, all_[index].exit_signal});
    return all_.size() - 1;
  }
  void setsid(std::size_t index) { all_[index].sid = all_[index].pid; }
  void set_subreaper(std::size_t index, bool on) { all_[index].subreaper = on; }
  void end(std::size_t index) {
    all_[index].alive = false;
    std::size_t heir = all_[index].parent;
    while (heir != 0 && !all_[heir].subreaper) heir = all_[heir].parent;
    for (Process& each : all_)
      if (&each != all_.data() && each.parent == index) each.parent = heir, each.exit_signal = SIGCHLD;
  }
  void collect(std::size_t index) { all_[index].collected = true; }

 private:
  std::vector<Process> all_;
};

// Of processes that come and go, with numbers in the order of birth or in any.
class History {
 public:
  History(unsigned seed, std::size_t most, bool by_age) : random_(seed), signals_(by_age) {
    deaths_ = below(8);
    numbers_.resize(most);
    std::iota(numbers_.begin(), numbers_.end(), 1);
    if (!by_age) std::ranges::shuffle(numbers_, random_);
    kernel_.emplace(numbers_[0]);
    if (below(4) != 0) kernel_->setsid(0);
    while (kernel_->size() < most) step();
  }
  const Kernel& kernel() const { return *kernel_; }

 private:
  std::size_t below(std::size_t limit) { return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random_); }
  void step() {
    // Younger ones do more.
    const std::size_t count = kernel_->size(), window = 1 + below(count), who = count - 1 - below(window);
    if (!(*kernel_)[who].alive) return;
    const std::size_t what = below(24);
    if (what < 2 && who != 0) kernel_->bear_sibling(who, numbers_[count]);
    else if (what < 8) kernel_->bear(who, numbers_[count], signals_ && below(2) == 0 ? SIGUSR1 : SIGCHLD);
    else if (what < 12 && (*kernel_)[who].sid != (*kernel_)[who].pid) kernel_->setsid(who);
    else if (what < 16) kernel_->set_subreaper(who, below(2) == 0);
    else if (what < 16 + deaths_ && who != 0) end(who);
  }
  void end(std::size_t who) {
    kernel_->end(who);
    if (below(8) != 0) kernel_->collect(who);
  }

  std::mt19937 random_;
  const bool signals_;  // besides SIGCHLD
  std::size_t deaths_ = 0;  // how often somebody ends
  std::vector<std::uint32_t> numbers_;
  std::optional<Kernel> kernel_;
};

Image image_of(const Kernel& kernel) {
  Image image;
  const auto add = [&](std::size_t index) {
    ImageTask& task = image.tasks.emplace_back();
    const Kernel::Process& process = kernel[index];
    task.tree.set_pid(process.pid);
    task.tree.set_ppid(index == 0 ? 0 : kernel[process.parent].pid);
    task.tree.set_pgid(process.sid);
    task.tree.set_sid(process.sid);
    constexpr std::uint32_t kAlive = 1, kDead = 2;
    task.core.mutable_tc()->set_task_state(process.alive ? kAlive : kDead);
    task.ids.set_vm_id(1000 + process.pid);
    if (process.exit_signal != SIGCHLD) image.exit_signals[process.pid] = process.exit_signal;
  };
  std::vector<std::size_t> next{0};
  while (!next.empty()) {
    const std::size_t index = next.back();
    next.pop_back();
    add(index);
    for (std::size_t i = 1; i < kernel.size(); ++i)
      if (kernel[i].parent == index && !kernel[i].collected) next.push_back(i);
  }
  return image;
}

// Does what is planned, as Cast does.
class Performance {
 public:
  Performance(const Image& image, const Family& family)
      : image_(image), family_(family), kernel_(image.tasks[0].tree.pid()), at_(image.tasks.size()), midwives_(family.adoptions.size()),
        stand_ins_(family.stand_ins.size()) {}

  void run() {
    raise(0);
    for (std::size_t i = 0; i < family_.adoptions.size(); ++i) bear_orphans(i);
    for (std::size_t i = family_.adoptions.size(); i-- > 0;) adopt(i);
    for (const auto& stand_in : stand_ins_)
      if (stand_in) dismiss(*stand_in);
  }
  void expect_same_family() {
    for (std::size_t i = 0; i < image_.tasks.size(); ++i) {
      const auto& tree = image_.tasks[i].tree;
      ASSERT_TRUE(at_[i]) << tree.pid();
      EXPECT_EQ(kernel_[*at_[i]].sid, tree.sid()) << tree.pid();
      if (i != 0) {
        EXPECT_EQ(kernel_[kernel_[*at_[i]].parent].pid, tree.ppid()) << tree.pid();
      }
      EXPECT_EQ(kernel_[*at_[i]].exit_signal, exit_signal(i)) << tree.pid();
    }
    std::size_t there = 0;
    for (std::size_t i = 0; i < kernel_.size(); ++i) there += !kernel_[i].collected;
    EXPECT_EQ(there, image_.tasks.size());
  }

 private:
  static constexpr std::uint32_t kHelper = 1'000'000;

  int exit_signal(std::size_t index) const {
    const auto found = image_.exit_signals.find(image_.tasks[index].tree.pid());
    return found == image_.exit_signals.end() ? SIGCHLD : found->second;
  }
  void bear(std::size_t of, std::size_t child) {
    ASSERT_FALSE(at_[child]);
    at_[child] = kernel_.bear(of, image_.tasks[child].tree.pid(), exit_signal(child));
  }
  void raise(std::size_t index) {
    const FamilyMember& member = family_.members[index];
    const std::size_t at = at_[index] ? *at_[index] : 0;
    at_[index] = at;
    const auto bear_all = [&](BornWhen when) {
      for (const std::size_t child : member.children)
        if (family_.members[child].born == when) bear(at, child);
    };
    if (member.makes_session && member.session_first) kernel_.setsid(at);
    if (!image_.tasks[index].alive()) {
      EXPECT_TRUE(member.children.empty() && member.early_midwives.empty());
      return;
    }
    bear_all(BornWhen::kEmpty);
    for (const std::size_t adoption : member.early_midwives) midwives_[adoption] = kernel_.bear(at, kHelper, SIGCHLD);
    bear_all(BornWhen::kWithMemory);
    if (member.makes_session && !member.session_first) kernel_.setsid(at);
    bear_all(BornWhen::kInSession);
    for (const std::size_t child : member.children) raise(child);
  }
  std::size_t giver_of(const Adoption& adoption) {
    if (!adoption.by_stand_in) return at_[adoption.giver].value();
    auto& stand_in = stand_ins_[adoption.giver];
    if (stand_in) return *stand_in;
    const StandIn& plan = family_.stand_ins[adoption.giver];
    stand_in = kernel_.bear(at_[plan.parent].value(), plan.pid, plan.exit_signal);
    kernel_.setsid(*stand_in);
    return *stand_in;
  }
  void bear_orphans(std::size_t index) {
    const Adoption& adoption = family_.adoptions[index];
    if (!adoption.early && !adoption.as_siblings) midwives_[index] = kernel_.bear(giver_of(adoption), kHelper, SIGCHLD);
    for (const std::size_t child : adoption.children) {
      if (adoption.as_siblings) at_[child] = kernel_.bear_sibling(giver_of(adoption), image_.tasks[child].tree.pid());
      else bear(*midwives_[index], child);
    }
    for (const std::size_t child : adoption.children) raise(child);
  }
  void adopt(std::size_t index) {
    const Adoption& adoption = family_.adoptions[index];
    if (adoption.as_siblings) return;
    EXPECT_EQ(kernel_[*midwives_[index]].parent, giver_of(adoption));
    kernel_.set_subreaper(at_[adoption.parent].value(), true);
    dismiss(*midwives_[index]);
    kernel_.set_subreaper(at_[adoption.parent].value(), false);
  }
  void dismiss(std::size_t who) {
    kernel_.end(who);
    kernel_.collect(who);
  }

  const Image& image_;
  const Family& family_;
  Kernel kernel_;
  std::vector<std::optional<std::size_t>> at_, midwives_, stand_ins_;  // in the kernel
};

// As family_test.cc would put it.
std::string text_of(const Image& image) {
  std::string text;
  for (const ImageTask& task : image.tasks) {
    const auto& tree = task.tree;
    text += format("\n  add({{{}, {}, {}, {}}}{});", tree.pid(), tree.ppid(), tree.pgid(), tree.sid(), task.alive() ? "" : ", kDead");
  }
  return text;
}

void check(unsigned seed, std::size_t most, bool by_age) {
  SCOPED_TRACE(testing::Message() << "seed " << seed << ", " << most << " processes");
  const History history(seed, most, by_age);
  const Image image = image_of(history.kernel());
  const auto family = plan_family(image, true);
  ASSERT_TRUE(family) << family.error().message() << text_of(image);
  Performance performance(image, *family);
  performance.run();
  performance.expect_same_family();
}

TEST(FamilyHistory, WhateverItWasItCanBeRepeated) {
  for (unsigned seed = 0; seed < 4000 && !testing::Test::HasFailure(); ++seed) check(seed, 4 + seed % 60, true);
}

// Numbers that began anew, or were given by a restore before.
TEST(FamilyHistory, NumbersNeedNotTellTheAge) {
  for (unsigned seed = 0; seed < 4000 && !testing::Test::HasFailure(); ++seed) check(seed, 4 + seed % 60, false);
}

}  // namespace
}  // namespace dormouse::engine
