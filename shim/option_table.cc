#include "shim/option_table.h"

#include <fcntl.h>
#include <sched.h>

#include "base/text.h"
#include "kernel/file.h"
#include "shim/option_values.h"

namespace dormouse::shim {
namespace {

using enum Argument;
constexpr unsigned kBoth = kDump | kPreDump | kRestore;
constexpr unsigned kDumps = kDump | kPreDump;

// ---- how rows are written ----

constexpr Option section(std::string_view title) {
  return {.name = "", .help = title};
}

constexpr Option flag(std::string_view name, char letter, unsigned where,
                      bool& (*member)(Settings&), std::string_view help) {
  return {.name = name,
          .letter = letter,
          .argument = kFlag,
          .where = where,
          .help = help,
          .flag = member};
}

constexpr Option value(std::string_view name, char letter, unsigned where,
                       std::string_view value_name, Result<> (*apply)(Settings&, const OptionUse&),
                       std::string_view help, Argument argument = kRequired) {
  return {.name = name,
          .letter = letter,
          .argument = argument,
          .where = where,
          .value_name = value_name,
          .help = help,
          .apply = apply};
}

constexpr Option action(std::string_view name, char letter, unsigned where,
                        Result<> (*apply)(Settings&, const OptionUse&), std::string_view help,
                        Argument argument = kNone) {
  return {.name = name,
          .letter = letter,
          .argument = argument,
          .where = where,
          .help = help,
          .apply = apply};
}

// Understood and true without doing anything; a comment at the row says why.
constexpr Option satisfied(std::string_view name, unsigned where, std::string_view help,
                           Argument argument = kFlag, std::string_view value_name = "") {
  return {.name = name,
          .argument = argument,
          .where = where,
          .value_name = value_name,
          .help = help,
          .apply = [](Settings&, const OptionUse&) -> Result<> { return {}; }};
}

constexpr Option missing(std::string_view name, unsigned where, std::string_view reason,
                         Argument argument = kFlag, std::string_view value_name = "",
                         char letter = 0) {
  return {.name = name,
          .letter = letter,
          .argument = argument,
          .where = where,
          .value_name = value_name,
          .missing = reason};
}

// A value that is fine when it is the one we have, and not built otherwise.
Result<> only(Settings& settings, const OptionUse& use, std::string_view have,
              std::string_view reason) {
  settings.missing.erase(std::string(use.option->name));
  if (use.text() != have)
    settings.missing.insert_or_assign(
        std::string(use.option->name),
        Settings::Missing{use.option->where, Error::unsupported(std::string(reason))
                                                 .object(use.origin)
                                                 .remedy(format("only \"{}\" can be had", have))});
  return {};
}

// ---- values that need a line or two ----

// -v, -vvv and -v4 as they have always been understood: what is no number counts as 0. (Callers write
// "-verbosity=0", which is a -v with the value "erbosity=0".)
Result<> count_verbosity(Settings& settings, const OptionUse& use) {
  std::string_view text = use.text();
  if (text.empty() || text[0] == 'v') {
    settings.verbosity += 1 + static_cast<int>(text.size());
    return {};
  }
  const auto digits = text.substr(0, text.find_first_not_of("0123456789"));
  settings.verbosity = parse_number<int>(digits).value_or(0);
  return {};
}

Result<> set_timeout(Settings& settings, const OptionUse& use) {
  const auto seconds = parse_number<std::uint32_t>(use.text());
  if (!seconds)
    return fail(Error::bad_option(format("\"{}\" is not a number of seconds", use.text())));
  settings.dump.freeze_timeout = std::chrono::seconds(*seconds);
  return {};
}

Result<> set_empty_namespace(Settings& settings, const OptionUse& use) {
  if (use.text() != "net")
    return fail(Error::bad_option(format("\"{}\" is not a namespace that can be empty", use.text()))
                    .remedy("only net can"));
  settings.common.empty_namespaces |= CLONE_NEWNET;
  return {};
}

Result<> accept_external_sockets(Settings& settings, const OptionUse& use) {
  settings.common.external_unix_sockets = true;
  return use.value ? add_external_sockets(settings, *use.value) : Result<>{};
}

Result<> enable_filesystems(Settings& settings, const OptionUse& use) {
  for (const std::string_view name : split(use.text(), ','))
    if (!name.empty()) settings.dump.enabled_filesystems.emplace_back(name);
  return {};
}

Result<std::string> parse_scan_path(std::string_view text) {
  if (!text.starts_with('/')) return fail(Error::bad_option(format("\"{}\" is no absolute path", text)));
  return std::string(text);
}

// ---- the table ----

// clang-format off
constexpr Option kTable[] = {
  section("Generic"),
  value("tree", 't', kDumps | kExec, "PID",
        [](Settings& s, const OptionUse& u) -> Result<> { s.dump.pid = TRY(parse_pid(u.text())); return {}; },
        "the root of the tree of tasks to checkpoint"),
  flag("restore-detached", 'd', kRestore, [](Settings& s) -> bool& { return s.detach; },
       "do not wait for the restored tasks"),
  flag("restore-sibling", 'S', kRestore, [](Settings& s) -> bool& { return s.restore.as_sibling; },
       "the root task becomes a child of the caller (with --restore-detached)"),
  action("leave-stopped", 's', kDump | kRestore,
         [](Settings& s, const OptionUse&) -> Result<> { s.dump.after = engine::AfterDump::kStop; s.restore.leave_stopped = true; return {}; },
         "leave the tasks stopped"),
  action("leave-running", 'R', kDump | kRestore,
         [](Settings& s, const OptionUse&) -> Result<> { s.dump.after = engine::AfterDump::kResume; s.restore.leave_stopped = false; return {}; },
         "let the tasks go on after the checkpoint"),
  {.name = "images-dir", .letter = 'D', .argument = kRequired, .value_name = "DIR",
   .help = "where the images are (default: the current directory)",
   .apply = [](Settings& s, const OptionUse& u) -> Result<> { s.images_dir = u.text(); return {}; }},
  {.name = "work-dir", .letter = 'W', .argument = kRequired, .value_name = "DIR",
   .help = "where logs, pid files and statistics go (default: the images directory)",
   .apply = [](Settings& s, const OptionUse& u) -> Result<> { s.work_dir = u.text(); return {}; }},
  value("pidfile", 0, kRestore | kPageServer | kService, "FILE",
        [](Settings& s, const OptionUse& u) -> Result<> { s.pidfile = u.text(); return {}; },
        "write the root task's pid to a new file"),
  action("exec-cmd", 0, kRestore, [](Settings& s, const OptionUse&) -> Result<> { s.exec_command = true; return {}; },
         "on success run the command after \"--\", as the restored root's parent"),
  value("freeze-cgroup", 0, kDumps, "DIR",
        [](Settings& s, const OptionUse& u) -> Result<> { s.dump.freeze_cgroup = u.text(); return {}; },
        "stop the tasks with the freezer of this cgroup"),
  value("timeout", 0, kDumps, "SECONDS", set_timeout, "how long stopping the tasks may take (default 10)"),
  flag("weak-sysctls", 0, kRestore, [](Settings& s) -> bool& { return s.restore.weak_sysctls; },
       "skip sysctls that this node does not have"),
  value("cpu-cap", 0, kDump | kRestore | kCpuinfo, "CAPS",
        [](Settings& s, const OptionUse& u) { return add_cpu_checks(s.common.cpu, u.value ? u.text() : "all"); },
        "record the CPU, and compare on restore: fpu, ins, cpu, all, none, ^CAP", kOptional),
  value("network-lock", 0, kDumps, "METHOD",
        [](Settings& s, const OptionUse& u) -> Result<> { s.common.network_lock = TRY(parse_network_lock(u.text())); return {}; },
        "iptables (default), nftables or skip"),
  value("without", 0, kEveryCommand, "FEATURE",
        [](Settings& s, const OptionUse& u) -> Result<> { s.common.without.emplace_back(u.text()); return {}; },
        "do as if the kernel lacked this feature"),
  flag("sync-images", 0, kDumps, [](Settings& s) -> bool& { return s.dump.sync_images; },
       "have the images on disk before they are declared complete"),
  // We demand no privilege that the operation can do without, asked or not.
  satisfied("unprivileged", kEveryCommand, "accept the limits of a user without privileges"),

  section("Resources from outside"),
  value("external", 0, kBoth, "TYPE[ID]:VALUE",
        [](Settings& s, const OptionUse& u) -> Result<> { return add_external(s, u.text()); },
        "an object that exists outside of the tree: mnt, net, pid, dev, file, tty, unix; veth, macvlan, netdev"),
  value("ext-mount-map", 'M', kBoth, "KEY:VALUE",
        [](Settings& s, const OptionUse& u) -> Result<> { return add_external_mount_map(s, u.text()); },
        "an external mount, or auto[:FLAGS] to find them"),
  action("enable-external-sharing", 0, kBoth, [](Settings& s, const OptionUse&) -> Result<> { s.dump.external_sharing = true; return {}; },
         "accept shared mounts with peers outside"),
  action("enable-external-masters", 0, kBoth, [](Settings& s, const OptionUse&) -> Result<> { s.dump.external_masters = true; return {}; },
         "accept slave mounts with masters outside"),
  value("inherit-fd", 0, kRestore, "fd[N]:RESOURCE",
        [](Settings& s, const OptionUse& u) -> Result<> { s.restore.inherited.push_back(TRY(parse_inherited_fd(u.text()))); return {}; },
        "descriptor N stands for tty[RDEV:DEV], pipe[INODE], socket[INODE], file[MNT:INODE] or a path"),
  value("veth-pair", 0, kRestore, "INNER=OUTER",
        [](Settings& s, const OptionUse& u) -> Result<> { return add_veth_pair(s, u.text()); },
        "the older spelling of --external veth[INNER]:OUTER"),
  value("join-ns", 'J', kRestore, "NS:{PID|FILE}[,OPTIONS]",
        [](Settings& s, const OptionUse& u) -> Result<> { s.restore.join_namespaces.push_back(TRY(parse_join_namespace(u.text()))); return {}; },
        "restore into an existing namespace"),
  value("empty-ns", 0, kBoth, "net", set_empty_namespace, "leave the namespace's contents to hooks"),

  section("Special resources"),
  flag("tcp-established", 0, kBoth, [](Settings& s) -> bool& { return s.common.tcp_established; },
       "save and restore established TCP connections"),
  flag("tcp-close", 0, kBoth, [](Settings& s) -> bool& { return s.common.tcp_close; },
       "restore TCP connections as closed"),
  flag("allow-uprobes", 0, kBoth, [](Settings& s) -> bool& { return s.common.allow_uprobes; },
       "save and restore tasks that uprobes have been in, with what their code is then"),
  flag("drop-landlock", 0, kDump, [](Settings& s) -> bool& { return s.dump.drop_landlock; },
       "save tasks that have restricted themselves with Landlock; they wake without these restrictions"),
  value("ext-unix-sk", 'x', kBoth, "INODES", accept_external_sockets,
        "accept unix sockets whose peer is outside", kOptional),
  {.name = "root", .letter = 'r', .argument = kRequired, .where = kBoth, .value_name = "PATH",
   .help = "the root of the container's file system on this node",
   .apply = [](Settings& s, const OptionUse& u) -> Result<> { s.common.root = u.text(); return {}; }},
  flag("evasive-devices", 0, kBoth, [](Settings& s) -> bool& { return s.common.evasive_devices; },
       "use any path to the same device"),
  flag("link-remap", 0, kBoth, [](Settings& s) -> bool& { return s.common.link_remap; },
       "give unlinked files a temporary name"),
  value("ghost-limit", 0, kDumps, "SIZE",
        [](Settings& s, const OptionUse& u) -> Result<> { s.common.ghost_limit_bytes = TRY(parse_size(u.text())); return {}; },
        "largest deleted file that is put into the images (default 1M)"),
  // Nothing else is saved of a watch, asked or not.
  satisfied("force-irmap", kDumps, "find the names of watched inodes, instead of trusting their file handles"),
  value("irmap-scan-path", 0, kDumps, "DIR",
        [](Settings& s, const OptionUse& u) -> Result<> { s.dump.irmap_scan_paths.push_back(TRY(parse_scan_path(u.text()))); return {}; },
        "search this directory too for watched inodes; may be repeated"),
  flag("shell-job", 'j', kBoth, [](Settings& s) -> bool& { return s.common.shell_job; },
       "the tree has its session and terminal from outside"),
  flag("file-locks", 'l', kBoth, [](Settings& s) -> bool& { return s.common.file_locks; },
       "save and restore file locks"),
  value("action-script", 0, kBoth, "FILE",
        [](Settings& s, const OptionUse& u) -> Result<> { s.action_scripts.emplace_back(u.text()); return {}; },
        "run FILE at every stage; CRTOOLS_SCRIPT_ACTION names the stage"),
  value("skip-mnt", 0, kDumps, "PATH",
        [](Settings& s, const OptionUse& u) -> Result<> { s.dump.skip_mounts.emplace_back(u.text()); return {}; },
        "leave this mount out"),
  value("enable-fs", 0, kDumps, "NAMES", enable_filesystems,
        "file systems to accept although unknown, or all"),
  value("lsm-profile", 0, kRestore, "TYPE:NAME",
        [](Settings& s, const OptionUse& u) -> Result<> { s.restore.lsm_profile = u.text(); return {}; },
        "the security profile of the restored tasks"),
  value("lsm-mount-context", 0, kRestore, "CONTEXT",
        [](Settings& s, const OptionUse& u) -> Result<> { s.restore.lsm_mount_context = u.text(); return {}; },
        "the security context of mounts that have one"),
  flag("skip-file-rwx-check", 0, kRestore, [](Settings& s) -> bool& { return s.common.skip_file_rwx_check; },
       "do not compare file permissions"),

  section("Control groups"),
  value("manage-cgroups", 0, kBoth, "MODE",
        [](Settings& s, const OptionUse& u) -> Result<> { s.common.cgroup_mode = TRY(parse_cgroup_mode(u.text())); return {}; },
        "none, props, soft (default), full, strict or ignore", kOptional),
  value("cgroup-root", 0, kBoth, "[CONTROLLER:]/PATH",
        [](Settings& s, const OptionUse& u) -> Result<> { s.common.cgroup_roots.push_back(parse_cgroup_root(u.text())); return {}; },
        "the cgroup to save from, or restore below"),
  value("cgroup-props", 0, kDump, "SPEC",
        [](Settings& s, const OptionUse& u) -> Result<> { s.dump.cgroup_property_specs.emplace_back(u.text()); return {}; },
        "more or other cgroup properties to save, in YAML"),
  value("cgroup-props-file", 0, kDump, "FILE",
        [](Settings& s, const OptionUse& u) -> Result<> { s.dump.cgroup_property_specs.push_back(TRY(sys::read_file(AT_FDCWD, std::string(u.text())))); return {}; },
        "the same from a file"),
  flag("cgroup-props-ignore-default", 0, kDump, [](Settings& s) -> bool& { return s.dump.cgroup_properties_ignore_default; },
       "save no controller's properties but those chosen"),
  value("cgroup-dump-controller", 0, kDump, "NAME",
        [](Settings& s, const OptionUse& u) -> Result<> { s.dump.cgroup_controllers.emplace_back(u.text()); return {}; },
        "save only this cgroup controller; may be repeated"),
  value("cgroup-yard", 0, kBoth, "PATH",
        [](Settings& s, const OptionUse& u) -> Result<> { s.common.cgroup_yard = u.text(); return {}; },
        "a directory in which every cgroup hierarchy is mounted"),

  section("Incremental checkpoints"),
  flag("track-mem", 0, kDumps, [](Settings& s) -> bool& { return s.dump.track_memory; },
       "note which pages are written from now on, and save only those written since --prev-images-dir"),
  value("prev-images-dir", 0, kDumps, "DIR",
        [](Settings& s, const OptionUse& u) -> Result<> { s.dump.parent_images = u.text(); return {}; },
        "the images of the dump or pre-dump before, as seen from the images directory"),
  flag("auto-dedup", 0, kBoth, [](Settings& s) -> bool& { return s.common.auto_dedup; },
       "drop pages of the images before that are saved again, or those that were restored"),

  section("Check"),
  value("feature", 0, kCheck, "NAME",
        [](Settings& s, const OptionUse& u) -> Result<> { s.features.emplace_back(u.text()); return {}; },
        "check one feature; \"list\" names them"),
  flag("extra", 0, kCheck, [](Settings& s) -> bool& { return s.check_extra; },
       "also what is needed for specific cases"),
  flag("experimental", 0, kCheck, [](Settings& s) -> bool& { return s.check_experimental; },
       "also what is experimental"),
  action("all", 0, kCheck,
         [](Settings& s, const OptionUse&) -> Result<> { s.check_extra = s.check_experimental = true; return {}; },
         "both"),

  section("Logging"),
  value("log-file", 'o', kEveryCommand, "FILE",
        [](Settings& s, const OptionUse& u) -> Result<> { s.log_file = u.text(); return {}; },
        "log to FILE in the work directory (default: stderr)"),
  value("verbosity", 'v', kEveryCommand, "N", count_verbosity,
        "0 nothing, 1 errors, 2 warnings (default), 3 information, 4 debug; -v, -vv raise it", kOptional),
  flag("display-stats", 0, kDump | kRestore, [](Settings& s) -> bool& { return s.display_stats; },
       "print statistics"),

  section("Configuration files and others"),
  // These four are acted upon before anything is applied.
  satisfied("config", kEveryCommand, "read FILE instead of the default files", kRequired, "FILE"),
  satisfied("no-default-config", kEveryCommand, "do not read the default files", kNone),
  {.name = "help", .letter = 'h', .help = "show this text", .apply = [](Settings&, const OptionUse&) -> Result<> { return {}; }},
  {.name = "version", .letter = 'V', .help = "show the version", .apply = [](Settings&, const OptionUse&) -> Result<> { return {}; }},
  value("close", 0, kEveryCommand, "FD",
        [](Settings& s, const OptionUse& u) -> Result<> { s.close_first.push_back(TRY(parse_descriptor(u.text()))); return {}; },
        "close this descriptor first"),

  // Spellings of older versions and choices between ways to the same end: nothing to do.
  satisfied("namespaces", kDumps, "", kRequired, "LIST"),      // namespaces are found by looking
  satisfied("ms", kCheck, "", kNone),                          // we ask only for what is merged upstream
  satisfied("deprecated", kEveryCommand, ""),                  // we refuse nothing for its age
  satisfied("mntns-compat-mode", kRestore, ""),                // there is one way to build mounts
  satisfied("ghost-fiemap", kDumps, ""),                       // a way of finding holes in a file
  satisfied("status-fd", kDump | kRestore, "", kRequired, "FD"),  // only daemons ever write it
  flag("daemon", 0, kPageServer | kService | kLazyPages, [](Settings& s) -> bool& { return s.detach; }, ""),
  value("pre-dump-mode", 0, kPreDump, "MODE",
        [](Settings& s, const OptionUse& u) -> Result<> { s.dump.pre_dump_mode = TRY(parse_pre_dump_mode(u.text())); return {}; }, ""),
  value("file-validation", 0, kBoth, "METHOD",
        [](Settings& s, const OptionUse& u) { return only(s, u, "buildid", "this way to validate files is not built"); }, ""),

  // Known and not built.
  missing("lazy-pages", kBoth, "restoring memory on demand is not built"),
  missing("stream", kBoth, "image streaming is not built"),
  missing("page-server", kDumps, "sending pages to a page server is not built"),
  missing("address", kDumps | kPageServer | kService, "page server and service are not built", kRequired, "ADDRESS"),
  missing("port", kDumps | kPageServer | kService, "page server and service are not built", kRequired, "PORT"),
  missing("ps-socket", kDumps | kPageServer, "the page server is not built", kRequired, "FD"),
  missing("skip-in-flight", kDumps, "skipping TCP connections in flight is not built"),
  missing("libdir", kBoth, "plugins are not built", kRequired, "DIR", 'L'),
  missing("log-pid", kBoth, "one log for each process is not built"),
  missing("tls", kBoth | kPageServer, "the page server is not built"),
  missing("tls-cacert", kBoth | kPageServer, "the page server is not built", kRequired, "FILE"),
  missing("tls-cacrl", kBoth | kPageServer, "the page server is not built", kRequired, "FILE"),
  missing("tls-cert", kBoth | kPageServer, "the page server is not built", kRequired, "FILE"),
  missing("tls-key", kBoth | kPageServer, "the page server is not built", kRequired, "FILE"),
  missing("tls-no-cn-verify", kBoth | kPageServer, "the page server is not built", kNone),
  missing("file", kShow, "showing images is not built", kRequired, "FILE", 'f'),
  missing("contents", kShow, "showing images is not built", kNone, "", 'c'),
};
// clang-format on

}  // namespace

std::span<const Option> option_table() {
  return kTable;
}

const Option* find_option(std::string_view name) {
  if (name.empty()) return nullptr;
  for (const Option& option : kTable)
    if (option.name == name) return &option;
  return nullptr;
}

const Option* find_option(char letter) {
  for (const Option& option : kTable)
    if (option.letter == letter && letter) return &option;
  // The first manual's letter for namespaces.
  return letter == 'n' ? find_option("namespaces") : nullptr;
}

Result<Spelling> find_spelling(std::string_view name) {
  std::vector<Spelling> begun;
  for (const Option& option : kTable) {
    if (option.name.empty()) continue;
    const auto consider = [&](const std::string& spelling, bool on) {
      if (spelling == name) return true;
      if (!name.empty() && spelling.starts_with(name)) begun.push_back({&option, on});
      return false;
    };
    if (consider(std::string(option.name), true)) return Spelling{&option, true};
    if (option.argument != kFlag) continue;
    if (consider("no-" + std::string(option.name), false)) return Spelling{&option, false};
  }
  if (begun.empty()) return fail(Error::bad_option("unknown option"));
  if (begun.size() == 1) return begun.front();
  std::string names;
  for (const Spelling& one : begun)
    names += format("{}--{}{}", names.empty() ? "" : ", ", one.on ? "" : "no-", one.option->name);
  return fail(Error::bad_option("it may mean " + names));
}

Result<> apply(Settings& settings, const OptionUse& use) {
  const Option& option = *use.option;
  if (option.argument == kRequired && !use.value)
    return fail(Error::bad_option("it needs a value").object(use.origin));
  if ((option.argument == kNone || option.argument == kFlag) && use.value)
    return fail(Error::bad_option("it takes no value").object(use.origin));

  if (option.flag) {
    option.flag(settings) = use.on;
  } else if (option.apply) {
    TRY_OR(option.apply(settings, use), std::move(e).object(use.origin));
  } else if (use.on) {
    settings.missing.insert_or_assign(
        std::string(option.name),
        Settings::Missing{option.where,
                          Error::unsupported(std::string(option.missing)).object(use.origin)});
  } else {
    settings.missing.erase(std::string(option.name));
  }
  return {};
}

std::string help_text() {
  std::string text =
      "Usage:\n"
      "  criu dump -t PID [OPTIONS]\n"
      "  criu pre-dump -t PID [OPTIONS]\n"
      "  criu dedup [OPTIONS]\n"
      "  criu restore [OPTIONS]\n"
      "  criu check [OPTIONS]\n"
      "  criu swrk FD\n"
      "\n"
      "Flags can be negated: --no-NAME.\n";
  for (const Option& option : kTable) {
    if (option.help.empty()) continue;
    if (option.name.empty()) {
      text += format("\n{}:\n", option.help);
      continue;
    }
    std::string head = option.letter ? format("  -{}, --{}", option.letter, option.name)
                                     : format("      --{}", option.name);
    if (option.argument == kRequired) head += format(" {}", option.value_name);
    if (option.argument == kOptional) head += format("[={}]", option.value_name);
    text += head.size() < 34 ? format("{:34}{}\n", head, option.help)
                             : format("{}\n{:34}{}\n", head, "", option.help);
  }
  text += "\nKnown and not built yet:";
  for (const Option& option : kTable)
    if (!option.missing.empty()) text += format(" --{}", option.name);
  text += '\n';
  return text;
}

}  // namespace dormouse::shim
