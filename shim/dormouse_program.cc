#include "shim/dormouse_program.h"

#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <functional>

#include "images/directory.h"
#include "images/summary.h"
#include "kernel/file.h"
#include "oci/json.h"
#include "shim/oci_checkpoint.h"
#include "shim/oci_lifecycle.h"
#include "shim/oci_restore.h"
#include "shim/oci_store.h"
#include "shim/version.h"

namespace dormouse::shim {
namespace {

void print(int fd, std::string_view text) { (void)sys::write_all(fd, text); }

// One line on stderr, as text or as JSON like runc's.
class Messages final : public Log {
 public:
  Messages() { set_threshold(LogLevel::kWarn); }
  void use_json() { json_ = true; }
  void write(LogLevel, std::string_view line) override { say("warning", line); }
  void error(std::string_view line) { say("error", line); }

 private:
  void say(std::string_view level, std::string_view line) {
    if (json_)
      print(STDERR_FILENO, oci::ObjectWriter().add("level", level).add("msg", line).text() + "\n");
    else
      print(STDERR_FILENO, format("dormouse: {}{}\n", level == "error" ? "" : "warning: ", line));
  }
  bool json_ = false;
};

struct Commands {
  OciCheckpoint checkpoint;
  OciRestore restore;
  std::string root, id, signal = "TERM", directory, log_format = "text";
  bool debug = false, all = false, force = false;
};

// --root names one directory; without it ours comes first, then runc's.
std::vector<std::string> roots(const Commands& commands) {
  if (!commands.root.empty()) return {commands.root};
  return {kOwnStateRoot, kRuncStateRoot};
}

// Paths are meant from where we were started; the work below goes to other places.
Result<> make_absolute(std::string& path) {
  if (path.empty() || path.starts_with('/')) return {};
  path = oci::clean_path(format("{}/{}", TRY(sys::readlinkat(AT_FDCWD, "/proc/self/cwd")), path));
  return {};
}

Result<> settle(Commands& commands) {
  for (auto* path : {&commands.root, &commands.directory, &commands.restore.bundle, &commands.restore.console_socket,
                     &commands.restore.pid_file})
    TRY(make_absolute(*path));
  for (OciOptions* options : {static_cast<OciOptions*>(&commands.checkpoint), static_cast<OciOptions*>(&commands.restore)}) {
    options->id = commands.id;
    if (options->image_path.empty()) options->image_path = "checkpoint";  // runc's default
    for (auto* path : {&options->image_path, &options->work_path, &options->log_file}) TRY(make_absolute(*path));
    if (commands.debug) options->log_level = "debug";
  }
  commands.checkpoint.roots = commands.restore.roots = roots(commands);
  return {};
}

Result<int> inspect(const std::string& directory) {
  const Fd fd = TRY_OR(sys::openat(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY), std::move(e).object("checkpoint " + directory));
  const auto images = TRY(images::InputDirectory::open(fd.get()));
  print(STDOUT_FILENO, images::summary_text(TRY(images::summarize(images))));
  const auto verified = images.verify();
  if (!verified) return fail(verified.error());
  return 0;
}

void add_id(CLI::App& command, Commands& commands) {
  command.add_option("id", commands.id, "the container's id")->required();
}

void add_common(CLI::App& command, OciOptions& options) {
  command.add_option("--image-path", options.image_path, "directory of the checkpoint (default: ./checkpoint)");
  command.add_option("--work-path", options.work_path, "directory for logs and statistics (default: the checkpoint's)");
  command.add_option("--log", options.log_file, "log file (default: dump.log or restore.log in the work path)");
  command.add_option("--log-level", options.log_level, "error, warn, info or debug")->capture_default_str();
  command.add_option("--manage-cgroups-mode", options.manage_cgroups, "ignore, none, props, soft, full or strict")
      ->capture_default_str();
  command.add_flag("--tcp-established", options.tcp_established, "established TCP connections are kept");
  command.add_flag("--tcp-close", options.tcp_close, "established TCP connections are restored closed");
  command.add_flag("--shell-job", options.shell_job, "the container uses a terminal from outside");
  command.add_flag("--file-locks", options.file_locks, "file locks are kept");
  command.add_flag("--ext-unix-sk", options.ext_unix_sk, "unix sockets may have peers outside");
  command.add_flag("--link-remap", options.link_remap, "deleted files with other names may be linked meanwhile");
}

CLI::App* add_checkpoint(CLI::App& app, Commands& commands) {
  auto* command = app.add_subcommand("checkpoint", "save a running container of runc or of ours");
  add_common(*command, commands.checkpoint);
  command->add_flag("--leave-running", commands.checkpoint.leave_running, "the container goes on");
  add_id(*command, commands);
  return command;
}

CLI::App* add_restore(CLI::App& app, Commands& commands) {
  auto* command = app.add_subcommand("restore", "bring a container back from a checkpoint");
  OciRestore& restore = commands.restore;
  add_common(*command, restore);
  command->add_option("-b,--bundle", restore.bundle, "directory of the bundle (default: .)");
  command->add_option("--console-socket", restore.console_socket, "unix socket that takes the container's terminal");
  command->add_option("--pid-file", restore.pid_file, "file to write the container's pid to");
  command->add_option("--lsm-profile", restore.lsm_profile, "TYPE:NAME to use instead of the saved profile");
  command->add_option("--lsm-mount-context", restore.lsm_mount_context, "SELinux context for mounts");
  command->add_flag("-d,--detach", restore.detach, "return as soon as the container runs");
  add_id(*command, commands);
  return command;
}

// What the words ask for, as a call that answers with the exit code.
using Action = std::function<Result<int>()>;

// `run` of a subcommand that was used becomes the action.
class Parser {
 public:
  Parser(Commands& commands, const EngineApi& engine, Messages& messages) {
    app_.set_version_flag("--version", std::string(kDormouseVersion));
    app_.add_option("--root", commands.root, "directory with the containers' states (default: /run/dormouse, then /run/runc)");
    app_.add_option("--log-format", commands.log_format, "text or json, of messages on stderr")
        ->check(CLI::IsMember({"text", "json"}));
    app_.add_flag("--debug", commands.debug, "log everything");
    app_.require_subcommand(1);

    on(add_checkpoint(app_, commands), [&]() -> Result<int> {
      commands.checkpoint.log = &messages;
      TRY(checkpoint_container(engine, commands.checkpoint));
      return 0;
    });
    on(add_restore(app_, commands), [&]() -> Result<int> {
      commands.restore.log = &messages;
      if (commands.restore.bundle.empty()) commands.restore.bundle = TRY(sys::readlinkat(AT_FDCWD, "/proc/self/cwd"));
      return restore_container(engine, commands.restore);
    });
    add_lifecycle(commands, messages);
    auto* inspection = app_.add_subcommand("inspect", "tell what is in a checkpoint");
    inspection->add_option("directory", commands.directory, "directory of the checkpoint")->required();
    on(inspection, [&] { return inspect(commands.directory); });
  }

  // Throws what CLI11 throws.
  Action parse(int argc, const char* const* argv) {
    app_.parse(argc, argv);
    return action_;
  }
  CLI::App& app() { return app_; }

 private:
  void on(CLI::App* command, Action action) {
    command->fallthrough();  // the options above are understood after the command's name, too
    command->callback([this, action = std::move(action)] { action_ = action; });
  }

  void add_lifecycle(Commands& commands, Messages& messages) {
    auto* state = app_.add_subcommand("state", "print a container's state as JSON");
    add_id(*state, commands);
    on(state, [&]() -> Result<int> {
      print(STDOUT_FILENO, TRY(container_state(roots(commands), commands.id)) + "\n");
      return 0;
    });
    auto* kill = app_.add_subcommand("kill", "send a signal to a restored container");
    kill->add_flag("-a,--all", commands.all, "to all of its processes");
    add_id(*kill, commands);
    kill->add_option("signal", commands.signal, "name or number")->capture_default_str();
    on(kill, [&]() -> Result<int> {
      TRY(kill_container(roots(commands), commands.id, commands.signal, commands.all));
      return 0;
    });
    auto* remove = app_.add_subcommand("delete", "remove what is left of a restored container");
    remove->add_flag("-f,--force", commands.force, "kill it first if it runs");
    add_id(*remove, commands);
    on(remove, [&]() -> Result<int> {
      TRY(delete_container(roots(commands), commands.id, {.force = commands.force, .log = &messages}));
      return 0;
    });
  }

  CLI::App app_{"Puts containers to sleep and wakes them, on the same node or another.", "dormouse"};
  Action action_;
};

int report(Messages& messages, const Error& error) {
  messages.error(error.message());
  return 1;
}

}  // namespace

int dormouse_program(int argc, const char* const* argv, const EngineApi& engine) {
  Commands commands;
  Messages messages;
  Action action;
  try {
    Parser parser(commands, engine, messages);
    try {
      action = parser.parse(argc, argv);
    } catch (const CLI::Success& success) {
      return parser.app().exit(success);  // --help, --version
    } catch (const CLI::ParseError& wrong) {
      return report(messages, Error::bad_option(wrong.what()).remedy("see dormouse --help"));
    }
    if (commands.log_format == "json") messages.use_json();
    if (const auto settled = settle(commands); !settled) return report(messages, settled.error());
    const auto done = action();
    return done ? *done : report(messages, done.error());
  } catch (const std::exception& broken) {  // CLI11, out of memory
    return report(messages, Error::bad_option(broken.what()));
  }
}

}  // namespace dormouse::shim
