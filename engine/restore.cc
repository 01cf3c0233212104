// The table of contents of a restore; each step says what holds afterwards.

#include "engine/restore.h"

#include <elf.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "base/defer.h"
#include "base/format.h"
#include "engine/birth.h"
#include "engine/cast.h"
#include "engine/cpu/cpuinfo.h"
#include "engine/dedup.h"
#include "engine/memory/page_check.h"
#include "engine/stats.h"
#include "kernel/features.h"

namespace dormouse::engine {
namespace {

class Restore {
 public:
  explicit Restore(const RestoreOptions& options) : options_(options) {}
  Result<> run();
  RestoreReport report() const { return report_; }

 private:
  [[nodiscard]] Result<> notify(const char* stage, pid_t pid = 0) {
    return options_.notify ? options_.notify({stage, pid, -1}) : Result<>{};
  }
  [[nodiscard]] Result<> open();
  [[nodiscard]] Result<> give_birth();
  void after_the_point_of_no_return(const char* stage);

  const RestoreOptions& options_;
  RestoreReport report_;
  Clock::time_point began_ = Clock::now();
  std::optional<images::Chain> chain_;
  std::optional<Image> image_;
  std::optional<RestoreContext> context_;
  std::unique_ptr<parasite::Keeper> keeper_;
  std::optional<Cast> cast_;
  NamespacePlan namespaces_;
};

Result<> Restore::run() {
  TRY(open());        // the image is whole and makes sense
  TRY(notify("pre-restore"));
  TRY(give_birth());  // the root puppet exists in its namespaces with its mounts
  TRY(cast_->open_files());
  TRY(cast_->raise_tree());      // all puppets exist, with their memory, sessions and groups
  TRY(cast_->install_files());   // descriptors, working directories, roots
  TRY(cast_->restore_state());   // everything but registers
  report_.forking = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - began_);
  TRY(notify("post-restore", cast_->root_pid()));
  if (namespaces_.create & CLONE_NEWNET) TRY(notify("network-unlock"));
  after_the_point_of_no_return("pre-resume");
  TRY(cast_->resume());          // registers are set, the interpreter is gone, nobody is traced
  after_the_point_of_no_return("post-resume");
  report_.root_pid = cast_->root_pid();
  report_.pages_restored = cast_->pages_restored();
  report_.total = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - began_);
  cast_->hand_over();
  // The tasks run: whatever becomes of the images, it is no failure of the restore.
  if (options_.auto_dedup)
    if (const Result<> dropped = drop_restored(*context_); !dropped)
      options_.log->warn("the restored pages could not be dropped: {}", dropped.error().message());
  return write_restore_stats(options_, report_);
}

void Restore::after_the_point_of_no_return(const char* stage) {
  if (const Result<> told = notify(stage); !told) options_.log->warn("{}: {}", stage, told.error().message());
}

Result<> Restore::open() {
  chain_ = TRY(images::Chain::open(options_.images_dir));
  if (options_.cpu.record && options_.cpu.any()) TRY(check_cpu(options_.images_dir, options_.cpu));
  image_ = TRY(load_image(*chain_));
  if (image_->inventory.allow_uprobes() && !options_.allow_uprobes)
    return fail(Error::unsupported("uprobes have been in its tasks, which were saved with --allow-uprobes")
                    .object("inventory.img").owner("the image")
                    .remedy("say --allow-uprobes here, too: those that were active must be so now"));
  context_.emplace(RestoreContext{options_, *options_.log, (*chain_)[0], *image_, &*chain_});
  return check_shared_chunks(*context_);
}

Result<> Restore::give_birth() {
  keeper_ = TRY(parasite::Keeper::create());
  namespaces_ = TRY(plan_namespaces(*context_));
  cast_.emplace(*context_, *keeper_);
  TRY(cast_->plan());
  TRY(cast_->clone_root(namespaces_));
  if (namespaces_.create != 0) {
    TRY(notify("setup-namespaces", cast_->root_pid()));
    TRY(cast_->build_root());
    return notify("post-setup-namespaces");
  }
  return cast_->build_root();
}

}  // namespace

std::expected<RestoreReport, Failures> restore(const RestoreOptions& options) {
  Restore work(options);
  const Result<> done = work.run();
  if (done) return work.report();
  return std::unexpected(Failures{{done.error()}});
}

}  // namespace dormouse::engine
