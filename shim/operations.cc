#include "shim/operations.h"

#include <memory>

#include "kernel/file.h"
#include "shim/action_scripts.h"
#include "shim/crash_log.h"

namespace dormouse::shim {
namespace {

// Everybody who watches the stages, in order; the first refusal ends the round.
engine::Notify in_turn(std::vector<engine::Notify> watchers, bool has_client) {
  return
      [watchers = std::move(watchers), has_client](const engine::Notification& stage) -> Result<> {
        // A descriptor that nobody takes would be lost, and its container hang on a dead terminal.
        if (stage.stage == "orphan-pts-master" && !has_client)
          return fail(Error::bad_option("nobody is there to take the terminal's master side")
                          .object("option orphan_pts_master")
                          .remedy("ask for notify_scripts too"));
        for (const engine::Notify& watcher : watchers)
          if (watcher) TRY(watcher(stage));
        return {};
      };
}

engine::Notify scripts_watcher(const Settings& settings, Workplace& place, pid_t root_pid) {
  if (settings.action_scripts.empty()) return {};
  auto scripts = std::make_shared<ActionScripts>(settings.action_scripts, place.images.get(),
                                                 root_pid, place.log);
  return [scripts](const engine::Notification& stage) { return scripts->run(stage); };
}

// Notes each stage, and writes out the log: whoever is told next may want to read it.
engine::Notify logging_watcher(Workplace& place) {
  return [&place](const engine::Notification& stage) -> Result<> {
    place.log.debug("stage {}", stage.stage);
    place.log.flush();
    return {};
  };
}

// The pid file of a restore. It is written while the tasks are still stopped, so that its failure
// is the restore's, and removed again if the restore fails later.
class PidFile {
 public:
  PidFile(std::string path, int directory) : path_(std::move(path)), directory_(directory) {}
  PidFile(const PidFile&) = delete;
  PidFile& operator=(const PidFile&) = delete;
  ~PidFile() {
    if (written_ && !kept_) (void)sys::unlinkat(directory_, path_);
  }
  void keep() { kept_ = true; }

  Result<> watch(const engine::Notification& stage) {
    if (path_.empty() || written_ || stage.stage != "post-restore") return {};
    // O_EXCL: a pid file that is there belongs to somebody who may still run.
    const Fd file = TRY_OR(sys::openat(directory_, path_, O_CREAT | O_EXCL | O_WRONLY, 0600),
                           std::move(e).object("pid file " + path_));
    written_ = true;
    return sys::write_all(file.get(), format("{}", stage.root_pid));
  }

 private:
  std::string path_;
  int directory_;
  bool written_ = false, kept_ = false;
};

void fill(engine::CommonOptions& options, Workplace& place, engine::Notify notify) {
  options.log = &place.log;
  options.images_dir = place.images.get();
  options.work_dir = place.work.get();
  options.notify = std::move(notify);
}

// A failure always has a cause: an empty list from the engine must not look like nothing.
template <class Outcome>
void report_failure(Workplace& place, std::string_view operation, Outcome& outcome) {
  auto& all = outcome.error().all;
  if (all.empty()) all.push_back(Error::unsupported("failed without telling why"));
  place.report(operation, all);
}

}  // namespace

CheckpointResult run_checkpoint(const EngineApi& engine, const Settings& settings, Workplace& place,
                                engine::Notify client) {
  const CrashLog crash(place.log);
  engine::CheckpointOptions options = checkpoint_options(settings);
  const bool has_client = static_cast<bool>(client);
  fill(options, place,
       in_turn({logging_watcher(place), std::move(client),
                scripts_watcher(settings, place, options.pid)},
               has_client));
  auto outcome = engine.checkpoint(options);
  if (outcome)
    place.log.info("Dumping finished successfully");
  else
    report_failure(place, "dump", outcome);
  place.log.flush();
  return outcome;
}

CheckpointResult run_pre_dump(const EngineApi& engine, const Settings& settings, Workplace& place) {
  const CrashLog crash(place.log);
  engine::CheckpointOptions options = checkpoint_options(settings);
  fill(options, place, {});
  auto outcome = engine.pre_dump(options);
  if (outcome)
    place.log.info("Pre-dumping finished successfully");
  else
    report_failure(place, "pre-dump", outcome);
  place.log.flush();
  return outcome;
}

RestoreResult run_restore(const EngineApi& engine, const Settings& settings, Workplace& place,
                          engine::Notify client) {
  const CrashLog crash(place.log);
  engine::RestoreOptions options = restore_options(settings);
  PidFile pidfile(settings.pidfile, place.work.get());
  const bool has_client = static_cast<bool>(client);
  fill(options, place,
       in_turn({logging_watcher(place),
                [&pidfile](const engine::Notification& stage) { return pidfile.watch(stage); },
                std::move(client), scripts_watcher(settings, place, 0)},
               has_client));
  auto outcome = engine.restore(options);
  if (outcome) {
    pidfile.keep();
    place.log.info("Restore finished successfully. Tasks resumed.");
  } else {
    report_failure(place, "restore", outcome);
  }
  place.log.flush();
  return outcome;
}

Result<> run_cpuinfo(const EngineApi& engine, const Settings& settings, Workplace& place, bool dump) {
  engine::CpuChecks checks = settings.common.cpu;
  // To check nothing needs no command: whoever asks for that wants all to be checked.
  if (!checks.any()) checks.fpu = checks.instructions = checks.exact = true;
  const Result<> done =
      dump ? engine.save_cpu(place.images.get()) : engine.check_cpu(place.images.get(), checks);
  if (!done) place.report(dump ? "cpuinfo dump" : "cpuinfo check", {&done.error(), 1});
  place.log.flush();
  return done;
}

std::string statistics_text(const engine::CheckpointReport& report) {
  std::string text = "Displaying dump stats:\n";
  text += format("Freezing time: {} us\n", report.freezing.count());
  text += format("Frozen time: {} us\n", report.frozen.count());
  text += format("Memory dump time: {} us\n", report.memory_dump.count());
  text += format("Memory write time: {} us\n", report.memory_write.count());
  text += format("Memory pages scanned: {0} (0x{0:x})\n", report.pages_scanned);
  text += format("Memory pages skipped from parent: {0} (0x{0:x})\n", report.pages_in_parent);
  text += format("Memory pages written: {0} (0x{0:x})\n", report.pages_written);
  return text;
}

std::string statistics_text(const engine::RestoreReport& report) {
  std::string text = "Displaying restore stats:\n";
  text += format("Pages compared: {0} (0x{0:x})\n", report.pages_compared);
  text += format("Pages skipped COW: {0} (0x{0:x})\n", report.pages_kept_shared);
  text += format("Pages restored: {0} (0x{0:x})\n", report.pages_restored);
  text += format("Restore time: {} us\n", report.total.count());
  text += format("Forking time: {} us\n", report.forking.count());
  return text;
}

}  // namespace dormouse::shim
