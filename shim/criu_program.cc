#include "shim/criu_program.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "kernel/file.h"
#include "kernel/process.h"
#include "shim/command_line.h"
#include "shim/kernel_check.h"
#include "shim/operations.h"
#include "shim/option_values.h"
#include "shim/rpc_server.h"
#include "shim/version.h"

namespace dormouse::shim {
namespace {

class Program {
 public:
  Program(const EngineApi& engine, const Console& console) : engine_(engine), console_(console) {}

  int run(std::span<const char* const> words, const ConfigFiles& files) {
    auto line = parse_command_line(words);
    if (!line) return usage(line.error());
    if (line->has("help")) return say(help_text());
    // Version probes look for exactly this line and must not fail for a bad configuration file.
    if (line->has("version")) return say(format("Version: {}\n", kReferenceVersion));
    line_ = std::move(*line);
    if (auto command = parse_command(line_))
      command_ = *command;
    else
      return usage(command.error());
    if (auto settled = settle(files); !settled) return usage(settled.error());
    return dispatch();
  }

 private:
  // All sources of settings, in order.
  Result<> settle(ConfigFiles files) {
    if (line_.has("config") || line_.has("no-default-config")) files.global = files.user = {};
    if (auto chosen = line_.value_of("config")) files.chosen = *chosen;
    TRY(apply_config_files(settings_, files));
    for (const OptionUse& use : line_.uses) TRY(apply(settings_, use));
    for (const int fd : settings_.close_first) ::close(fd);
    return {};
  }

  int dispatch() {
    switch (command_) {
      case kSwrk:
        return worker();
      case kDump:
        return dump();
      case kPreDump:
        return pre_dump();
      case kDedup:
        return dedup();
      case kRestore:
        return restore();
      case kCheck:
        return check();
      case kCpuinfo:
        return cpuinfo();
      default:
        return usage(Error::unsupported("not built yet").object("command " + line_.operands[0]));
    }
  }

  int worker() {
    if (line_.operands.size() != 2)
      return usage(Error::bad_option("usage: criu swrk FD").object("command swrk"));
    const auto socket = parse_descriptor(line_.operands[1]);
    if (!socket) return usage(socket.error());
    // Scripts and an exec_cmd have no business with it.
    ::fcntl(*socket, F_SETFD, FD_CLOEXEC);
    return serve_rpc(*socket, settings_, engine_);
  }

  int dump() {
    if (settings_.dump.pid <= 0) add(Error::bad_option("it is needed").object("option --tree"));
    if (!prepare(true)) return kExitFailure;
    const auto outcome = run_checkpoint(engine_, settings_, place_, {});
    if (!outcome) return kExitFailure;
    if (settings_.display_stats) say(statistics_text(*outcome));
    return kExitSuccess;
  }

  int pre_dump() {
    if (settings_.dump.pid <= 0) add(Error::bad_option("it is needed").object("option --tree"));
    if (!prepare(true)) return kExitFailure;
    const auto outcome = run_pre_dump(engine_, settings_, place_);
    if (!outcome) return kExitFailure;
    if (settings_.display_stats) say(statistics_text(*outcome));
    return kExitSuccess;
  }

  int dedup() {
    if (!prepare(true)) return kExitFailure;
    if (const Result<> done = engine_.dedup(place_.images.get()); !done) {
      place_.report("dedup", {&done.error(), 1});
      return kExitFailure;
    }
    return kExitSuccess;
  }

  int restore() {
    if (settings_.restore.as_sibling && !settings_.detach)
      add(Error::bad_option("it needs --restore-detached").object("option --restore-sibling"));
    const std::vector<std::string> command(line_.operands.begin() + 1, line_.operands.end());
    if (settings_.exec_command) {
      if (command.empty()) add(Error::bad_option("it needs a command").object("option --exec-cmd"));
      if (settings_.detach)
        add(Error::bad_option("it excludes --restore-detached").object("option --exec-cmd"));
    }
    if (!prepare(true, settings_.exec_command)) return kExitFailure;

    settings_.restore.parent_ends = settings_.detach && !settings_.restore.as_sibling;
    const auto outcome = run_restore(engine_, settings_, place_, {});
    if (!outcome) return kExitFailure;
    if (settings_.display_stats) say(statistics_text(*outcome));
    if (settings_.exec_command) {
      place_.log.error(become(command));
      return kExitFailure;
    }
    // Attached: we are the root task's parent for as long as it lives. How it ends is not our
    // result.
    if (!settings_.detach) (void)sys::waitid(P_PID, static_cast<id_t>(outcome->root_pid), WEXITED);
    return kExitSuccess;
  }

  int check() {
    if (std::ranges::find(settings_.features, "list") != settings_.features.end()) {
      std::string names;
      for (const std::string_view name : feature_names()) (names += name) += '\n';
      return say(names);
    }
    if (!prepare(false)) return kExitFailure;
    if (!settings_.features.empty()) return check_by_name();

    const auto required = missing_features(FeatureCategory::kRequired, has());
    if (!required.empty()) {
      place_.report("check", required);
      say("Does not look good.\n");
      return kExitFailure;
    }
    std::vector<Error> missing;
    if (settings_.check_extra) missing = missing_features(FeatureCategory::kExtra, has());
    if (settings_.check_experimental)
      for (Error& error : missing_features(FeatureCategory::kExperimental, has()))
        missing.push_back(std::move(error));
    for (const Error& error : missing) place_.log.warn("{}", error.message());
    if (missing.empty()) return say("Looks good.\n");
    say("Looks good but some kernel features are missing\n"
        "which, depending on your process tree, may cause\n"
        "dump or restore failure.\n");
    return kExitFailure;
  }

  int cpuinfo() {
    const std::string word = line_.operands.size() == 2 ? line_.operands[1] : "";
    if (word != "dump" && word != "check")
      return usage(Error::bad_option("usage: criu cpuinfo {dump|check}").object("command cpuinfo"));
    if (!prepare(true, true)) return kExitFailure;
    return run_cpuinfo(engine_, settings_, place_, word == "dump") ? kExitSuccess : kExitFailure;
  }

  int check_by_name() {
    int code = kExitSuccess;
    for (const std::string& name : settings_.features) {
      if (auto there = check_feature(name, has())) {
        say(format("{} is supported\n", name));
      } else {
        place_.log.warn("{}", there.error().message());
        code = kExitFailure;
      }
    }
    return code;
  }

  // The kernel's features less those that --without hides.
  HasFeature has() const {
    return [this](sys::Feature feature) {
      for (const std::string& hidden : settings_.common.without)
        if (sys::Features::find(hidden) == feature) return false;
      return engine_.has_feature(feature);
    };
  }

  void add(Error error) { errors_.push_back(std::move(error)); }

  // Directories and log, and everything that speaks against going on. False: it has been reported.
  bool prepare(bool needs_images, bool takes_operands = false) {
    if (line_.operands.size() > 1 && !takes_operands)
      add(Error::bad_option("unexpected word").object(line_.operands[1]));
    if (settings_.exec_command && command_ != kRestore)
      add(Error::bad_option("it is for the command restore only").object("option --exec-cmd"));
    if (settings_.images_dir.empty()) settings_.images_dir = ".";
    settings_.log_to_stderr = settings_.log_file.empty();
    for (Error& error : refusals(settings_, command_)) add(std::move(error));
    for (Error& error : place_.open(settings_, needs_images)) add(std::move(error));
    if (errors_.empty()) return true;
    // Without a log file that could be opened, the user still has to hear of it.
    if (place_.log.fd() < 0) use_console(place_.log);
    place_.report(line_.operands[0], errors_);
    return false;
  }

  int usage(const Error& error) {
    LogFile log(1);
    use_console(log);
    log.error(error);
    return kExitFailure;
  }

  void use_console(LogFile& log) {
    if (Fd fd(::fcntl(console_.err, F_DUPFD_CLOEXEC, 3)); fd) log.use(std::move(fd));
  }

  int say(std::string_view text) {
    return sys::write_all(console_.out, text) ? kExitSuccess : kExitFailure;
  }

  const EngineApi& engine_;
  const Console& console_;
  CommandLine line_;
  Command command_ = kCheck;
  Settings settings_;
  Workplace place_;
  std::vector<Error> errors_;
};

}  // namespace

int criu_program(std::span<const char* const> words, const ConfigFiles& files,
                 const EngineApi& engine, const Console& console) {
  return Program(engine, console).run(words, files);
}

}  // namespace dormouse::shim
