#include "shim/rpc_options.h"

#include <sched.h>

#include <algorithm>

#include "shim/config_file.h"
#include "shim/option_table.h"
#include "shim/option_values.h"

namespace dormouse::shim {
namespace {

using Opts = pb::criu_opts;

// A field that is an option of the table: same name to the user, same meaning.
struct BoolField {
  std::string_view field, option;
  bool (Opts::*has)() const;
  bool (Opts::*get)() const;
};
struct TextField {
  std::string_view field, option;
  bool (Opts::*has)() const;
  const std::string& (Opts::*get)() const;
};
struct ListField {
  std::string_view field, option;
  const google::protobuf::RepeatedPtrField<std::string>& (Opts::*get)() const;
};

#define FIELD(name, option) \
  { #name, option, &Opts::has_##name, &Opts::name }
constexpr BoolField kFlags[] = {
    FIELD(tcp_established, "tcp-established"),
    FIELD(evasive_devices, "evasive-devices"),
    FIELD(shell_job, "shell-job"),
    FIELD(file_locks, "file-locks"),
    FIELD(track_mem, "track-mem"),
    FIELD(auto_dedup, "auto-dedup"),
    FIELD(link_remap, "link-remap"),
    FIELD(force_irmap, "force-irmap"),
    FIELD(rst_sibling, "restore-sibling"),
    FIELD(tcp_skip_in_flight, "skip-in-flight"),
    FIELD(weak_sysctls, "weak-sysctls"),
    FIELD(lazy_pages, "lazy-pages"),
    FIELD(tcp_close, "tcp-close"),
    FIELD(skip_file_rwx_check, "skip-file-rwx-check"),
    FIELD(unprivileged, "unprivileged"),
    FIELD(display_stats, "display-stats"),
};
// These can only ask for something: false is the same as absent.
constexpr BoolField kRequests[] = {
    FIELD(leave_running, "leave-running"),
    FIELD(leave_stopped, "leave-stopped"),
    FIELD(tls, "tls"),
    FIELD(tls_no_cn_verify, "tls-no-cn-verify"),
    FIELD(mntns_compat_mode, "mntns-compat-mode"),
};
constexpr TextField kTexts[] = {
    FIELD(root, "root"),
    FIELD(freeze_cgroup, "freeze-cgroup"),
    FIELD(lsm_profile, "lsm-profile"),
    FIELD(lsm_mount_context, "lsm-mount-context"),
    FIELD(parent_img, "prev-images-dir"),
    FIELD(cgroup_props, "cgroup-props"),
    FIELD(cgroup_props_file, "cgroup-props-file"),
    FIELD(cgroup_yard, "cgroup-yard"),
    FIELD(tls_cacert, "tls-cacert"),
    FIELD(tls_cacrl, "tls-cacrl"),
    FIELD(tls_cert, "tls-cert"),
    FIELD(tls_key, "tls-key"),
};
#undef FIELD
#define FIELD(name, option) \
  { #name, option, &Opts::name }
constexpr ListField kLists[] = {
    FIELD(external, "external"),
    FIELD(skip_mnt, "skip-mnt"),
    FIELD(enable_fs, "enable-fs"),
    FIELD(irmap_scan_paths, "irmap-scan-path"),
    FIELD(cgroup_dump_controller, "cgroup-dump-controller"),
};
#undef FIELD

class Translator {
 public:
  Translator(RpcSetup& setup, const Opts& request, pid_t client)
      : out_(setup), settings_(setup.settings), request_(request), client_(client) {}

  void run(const std::vector<int>& unknown) {
    enumerations(unknown);
    table_fields();
    numbers();
    cgroups();
    resources();
    places_and_config();
  }

 private:
  // One use of an option of the table, for which a field stands.
  void use(std::string_view field, std::string_view option, std::optional<std::string> value,
           bool on = true) {
    OptionUse one;
    one.option = find_option(option);
    one.value = std::move(value);
    one.on = on;
    one.origin = format("RPC field {}", field);
    note(apply(settings_, one));
  }
  void note(Result<> step) {
    if (!step) out_.errors.push_back(std::move(step).error());
  }
  void wrong(std::string_view field, std::string reason) {
    out_.errors.push_back(
        Error::bad_option(std::move(reason)).object(format("RPC field {}", field)));
  }
  template <class T>
  void keep(std::string_view field, std::vector<T>& list, Result<T> value) {
    if (value)
      list.push_back(std::move(*value));
    else
      out_.errors.push_back(std::move(value).error().object(format("RPC field {}", field)));
  }

  // An enumerator that the schema does not know has landed among the unknown fields. Unknown fields
  // proper come from clients that are newer than we are; those that insist check our version.
  void enumerations(const std::vector<int>& unknown) {
    for (const int number : unknown) {
      if (number == Opts::kManageCgroupsModeFieldNumber)
        wrong("manage_cgroups_mode", "unknown mode");
      if (number == Opts::kNetworkLockFieldNumber) wrong("network_lock", "unknown method");
      if (number == Opts::kPreDumpModeFieldNumber) wrong("pre_dump_mode", "unknown mode");
    }
  }

  void table_fields() {
    for (const BoolField& row : kFlags)
      if ((request_.*row.has)()) use(row.field, row.option, std::nullopt, (request_.*row.get)());
    for (const BoolField& row : kRequests)
      if ((request_.*row.get)()) use(row.field, row.option, std::nullopt);
    for (const TextField& row : kTexts)
      if ((request_.*row.has)()) use(row.field, row.option, (request_.*row.get)());
    for (const ListField& row : kLists)
      for (const std::string& text : (request_.*row.get)()) use(row.field, row.option, text);
    for (const std::string& word : request_.exec_cmd()) out_.exec_command.push_back(word);
    if (request_.orphan_pts_master()) settings_.common.orphan_pts_master = true;
  }

  void numbers() {
    if (request_.has_pid()) settings_.dump.pid = request_.pid();
    if (request_.has_ghost_limit()) settings_.common.ghost_limit_bytes = request_.ghost_limit();
    if (request_.has_timeout())
      settings_.dump.freeze_timeout = std::chrono::seconds(request_.timeout());
    if (request_.has_empty_ns()) {
      settings_.common.empty_namespaces = request_.empty_ns();
      if (request_.empty_ns() & ~static_cast<std::uint32_t>(CLONE_NEWNET))
        wrong("empty_ns", "only the network namespace can be empty");
    }
    if (request_.has_network_lock()) {
      using enum engine::NetworkLock;
      settings_.common.network_lock = request_.network_lock() == pb::SKIP       ? kSkip
                                      : request_.network_lock() == pb::NFTABLES ? kNftables
                                                                                : kIptables;
    }
    if (request_.has_cpu_cap()) settings_.common.cpu = cpu_checks_of(request_.cpu_cap());
    if (request_.has_ps()) use("ps", "page-server", std::nullopt);
    if (request_.has_pre_dump_mode())
      settings_.dump.pre_dump_mode = request_.pre_dump_mode() == pb::VM_READ
                                         ? engine::PreDumpMode::kRead
                                         : engine::PreDumpMode::kSplice;
    // Accepted and without effect: status_fd (only daemons ever write it), pidfd_store_sk (tells
    // reused pids from one incremental dump to the next, which are told apart anyway).
  }

  void cgroups() {
    using enum engine::CgroupMode;
    if (request_.has_manage_cgroups())
      settings_.common.cgroup_mode = request_.manage_cgroups() ? kSoft : kIgnore;
    if (request_.has_manage_cgroups_mode())
      settings_.common.cgroup_mode =
          request_.manage_cgroups_mode() == pb::DEFAULT
              ? kSoft
              : static_cast<engine::CgroupMode>(request_.manage_cgroups_mode());
    for (const auto& root : request_.cg_root())
      settings_.common.cgroup_roots.push_back({root.ctrl(), !root.has_ctrl(), root.path()});
  }

  void resources() {
    auto& common = settings_.common;
    if (request_.has_ext_unix_sk()) {
      common.external_unix_sockets = request_.ext_unix_sk();
      for (const auto& socket : request_.unix_sk_ino())
        common.externals.push_back(format("unix[{}]", socket.inode()));
    }
    for (const auto& veth : request_.veths())
      common.externals.push_back(format("veth[{}]:{}", veth.if_in(), veth.if_out()));
    for (const auto& mount : request_.ext_mnt())
      common.external_mounts.push_back({mount.key(), mount.val()});
    if (request_.has_auto_ext_mnt()) settings_.common.auto_external_mounts = request_.auto_ext_mnt();
    if (request_.has_ext_sharing()) settings_.dump.external_sharing = request_.ext_sharing();
    if (request_.has_ext_masters()) settings_.dump.external_masters = request_.ext_masters();
    for (const auto& join : request_.join_ns())
      keep("join_ns", settings_.restore.join_namespaces,
           join_namespace(join.ns(), join.ns_file(), join.extra_opt()));
    for (const auto& inherited : request_.inherit_fd())
      keep("inherit_fd", settings_.restore.inherited,
           inherited_fd(inherited.key(), inherited.fd()));
  }

  // Where images, logs and so on are: the client's descriptors, unless its configuration file says
  // otherwise. That file is applied last, but for the verbosity, which is always the request's.
  void places_and_config() {
    const std::string default_work = std::exchange(settings_.work_dir, {});
    const std::string default_log = std::exchange(settings_.log_file, {});
    settings_.images_dir.clear();
    if (request_.has_config_file() && !request_.config_file().empty())
      note(apply_config_file(settings_, request_.config_file()));

    const bool log_by_config = !settings_.log_file.empty();
    if (settings_.images_dir.empty())
      settings_.images_dir = request_.images_dir_fd() != -1 ? client_fd(request_.images_dir_fd())
                                                            : request_.images_dir();
    if (settings_.work_dir.empty())
      settings_.work_dir =
          request_.has_work_dir_fd() ? client_fd(request_.work_dir_fd()) : default_work;

    if (!log_by_config) {
      settings_.log_file = default_log.empty() ? "criu.log" : default_log;
      if (request_.has_log_file()) {
        settings_.log_file = request_.log_file();
        if (request_.log_file().empty() || request_.log_file().contains('/')) {
          wrong("log_file", "not a plain file name");
          settings_.log_file = "criu.log";
        }
      }
      settings_.log_to_stderr = request_.log_to_stderr() && !request_.has_log_file();
    }
    settings_.verbosity = request_.log_level();
  }

  std::string client_fd(int number) const { return format("/proc/{}/fd/{}", client_, number); }

  RpcSetup& out_;
  Settings& settings_;
  const Opts& request_;
  pid_t client_;
};

}  // namespace

RpcSetup settings_from_request(const Settings& base, const pb::criu_opts& request, pid_t client,
                               const std::vector<int>& unknown_fields) {
  RpcSetup setup{base, {}, {}};
  Translator(setup, request, client).run(unknown_fields);
  return setup;
}

}  // namespace dormouse::shim
