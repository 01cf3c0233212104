#include "shim/rpc_server.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "shim/kernel_check.h"
#include "shim/operations.h"
#include "shim/rpc_channel.h"
#include "shim/rpc_options.h"
#include "shim/version.h"

namespace dormouse::shim {
namespace {

// Clients read replies into buffers of as little as 1 KiB.
constexpr std::size_t kMaxMessageBytes = 800;

bool may_stay_open(pb::criu_req_type type) {
  switch (type) {
    case pb::VERSION:
    case pb::FEATURE_CHECK:
    case pb::CPUINFO_DUMP:
    case pb::CPUINFO_CHECK:
    case pb::PAGE_SERVER:
    case pb::PAGE_SERVER_CHLD:
      return true;
    default:
      return false;
  }
}

pb::criu_resp reply_to(pb::criu_req_type type, bool success) {
  pb::criu_resp reply;
  reply.set_type(type);
  reply.set_success(success);
  return reply;
}

// `message`: a log line with its newline, or nothing.
void set_failure(pb::criu_resp& reply, int err, std::string message) {
  reply.set_cr_errno(err);
  if (message.size() > kMaxMessageBytes) {
    message.resize(kMaxMessageBytes);
    message += "…\n";
  }
  if (!message.empty()) reply.set_cr_errmsg(std::move(message));
}

class Server {
 public:
  Server(int socket, const Settings& base, const EngineApi& engine)
      : channel_(socket), base_(base), engine_(engine) {}

  int run() {
    for (bool first = true;; first = false) {
      const auto request = channel_.receive();
      if (!request) {
        // A client that asked us to stay and then hangs up has done nothing wrong.
        const bool hung_up = request.error().is_kernel(ECONNRESET);
        return !first && hung_up ? kExitSuccess : kExitProtocol;
      }
      const bool stay = request->message.keep_open();
      if (stay && !may_stay_open(request->message.type())) return kExitProtocol;
      const int code = serve(*request);
      if (code != kExitSuccess || !stay) return code;
    }
  }

 private:
  int serve(const RpcRequest& request) {
    switch (request.message.type()) {
      case pb::DUMP:
        return dump(request);
      case pb::RESTORE:
        return restore(request);
      case pb::CHECK:
        return check(request);
      case pb::VERSION:
        return version();
      case pb::FEATURE_CHECK:
        return feature_check(request.message);
      case pb::WAIT_PID:
        return wait_pid(request.message);
      case pb::PRE_DUMP:
        return pre_dump_and_more(request);
      case pb::SINGLE_PRE_DUMP:
        return pre_dump(request);
      case pb::PAGE_SERVER:
      case pb::PAGE_SERVER_CHLD:
        return refuse(request, pb::PAGE_SERVER, kExitSuccess, "the page server is not built");
      case pb::CPUINFO_DUMP:
      case pb::CPUINFO_CHECK:
        return cpuinfo(request);
      default:
        break;
    }
    pb::criu_resp reply = reply_to(pb::EMPTY, false);
    LogFile log;
    log.error(Error::bad_option("unknown or out of place").object("RPC request"));
    set_failure(reply, EBADRQC, log.first_error());
    (void)channel_.send(reply);
    return kExitProtocol;
  }

  // What precedes every operation: the settings, the directories, the log. False: `errors` has all
  // that is wrong, and has been reported.
  struct Prepared {
    Workplace place;
    RpcSetup setup;
    bool fine = false;
  };
  void prepare(const RpcRequest& request, Command command, std::string_view operation,
               Prepared& to) {
    auto& errors = to.setup.errors;
    const auto client = channel_.peer_pid();
    if (!request.message.has_opts())
      errors.push_back(Error::bad_option("the request has no options").object("RPC request"));
    else if (!client)
      errors.push_back(client.error());
    if (errors.empty()) {
      to.setup =
          settings_from_request(base_, request.message.opts(), *client, request.unknown_options);
      for (Error& error : refusals(to.setup.settings, command)) errors.push_back(std::move(error));
      for (Error& error : to.place.open(to.setup.settings, command != kCheck))
        errors.push_back(std::move(error));
    }
    to.fine = errors.empty();
    if (!to.fine) to.place.report(operation, errors);
  }

  engine::Notify notifier(const RpcRequest& request, pid_t* root_pid = nullptr) {
    if (!request.message.opts().notify_scripts()) return {};
    return [this, root_pid](const engine::Notification& stage) {
      if (root_pid && stage.root_pid > 0) *root_pid = stage.root_pid;
      return channel_.notify(stage);
    };
  }

  int dump(const RpcRequest& request) {
    pb::criu_resp reply = reply_to(pb::DUMP, false);
    reply.mutable_dump()->set_restored(false);
    Prepared prepared;
    prepare(request, kDump, "dump", prepared);
    if (prepared.fine && prepared.setup.settings.dump.pid <= 0) {
      const Error self = Error::unsupported("a client that dumps itself is not built")
                             .object("RPC field pid")
                             .remedy("name the process to dump");
      prepared.place.report("dump", {&self, 1});
      prepared.fine = false;
    }
    int err = EBADRQC;
    if (prepared.fine) {
      const auto outcome =
          run_checkpoint(engine_, prepared.setup.settings, prepared.place, notifier(request));
      reply.set_success(outcome.has_value());
      if (!outcome) err = outcome.error().all.front().err();
    }
    return finish(reply, err, prepared.place.log);
  }

  int pre_dump(const RpcRequest& request) {
    pb::criu_resp reply = reply_to(request.message.type(), false);
    Prepared prepared;
    prepare(request, kPreDump, "pre-dump", prepared);
    if (prepared.fine && prepared.setup.settings.dump.pid <= 0) {
      const Error nobody = Error::bad_option("it is needed").object("RPC field pid").remedy("name the process to dump");
      prepared.place.report("pre-dump", {&nobody, 1});
      prepared.fine = false;
    }
    int err = EBADRQC;
    if (prepared.fine) {
      const auto outcome = run_pre_dump(engine_, prepared.setup.settings, prepared.place);
      reply.set_success(outcome.has_value());
      if (!outcome) err = outcome.error().all.front().err();
    }
    return finish(reply, err, prepared.place.log) == kExitSuccess ? kExitSuccess : kExitProtocol;
  }

  // Any number of pre-dumps, and the dump that they are for, on one connection.
  int pre_dump_and_more(const RpcRequest& first) {
    if (const int code = pre_dump(first); code != kExitSuccess) return code;
    const auto next = channel_.receive();
    if (!next) return kExitProtocol;
    if (next->message.type() == pb::PRE_DUMP) return pre_dump_and_more(*next);
    if (next->message.type() == pb::DUMP) return dump(*next);
    pb::criu_resp reply = reply_to(pb::EMPTY, false);
    LogFile log;
    log.error(Error::bad_option("only PRE_DUMP or DUMP can follow a PRE_DUMP").object("RPC request"));
    set_failure(reply, EBADRQC, log.first_error());
    (void)channel_.send(reply);
    return kExitProtocol;
  }

  int restore(const RpcRequest& request) {
    pb::criu_resp reply = reply_to(pb::RESTORE, false);
    Prepared prepared;
    prepare(request, kRestore, "restore", prepared);
    int err = EBADRQC;
    pid_t root_pid = -1;
    if (prepared.fine) {
      // Not waited for: this process ends with its client's last request.
      engine::RestoreOptions& restore = prepared.setup.settings.restore;
      restore.parent_ends = !restore.as_sibling;
      const auto outcome = run_restore(engine_, prepared.setup.settings, prepared.place,
                                       notifier(request, &root_pid));
      reply.set_success(outcome.has_value());
      if (outcome)
        root_pid = outcome->root_pid;
      else
        err = outcome.error().all.front().err();
    }
    // After a failure the pid still serves a client whose child the root was: it has to reap it.
    reply.mutable_restore()->set_pid(root_pid);
    const int code = finish(reply, err, prepared.place.log);
    if (code == kExitSuccess && !prepared.setup.exec_command.empty())
      return become_command(prepared);
    return code;
  }

  // The reply of a dump or restore.
  int finish(pb::criu_resp& reply, int err, const LogFile& log) {
    if (!reply.success()) set_failure(reply, err, log.first_error());
    const bool sent = channel_.send(reply).has_value();
    return reply.success() && sent ? kExitSuccess : kExitFailure;
  }

  // The command has the log for stdout and stderr; the socket closes with the exec.
  int become_command(Prepared& prepared) {
    LogFile& log = prepared.place.log;
    log.flush();
    if (log.fd() >= 0) {
      ::dup2(log.fd(), STDOUT_FILENO);
      ::dup2(log.fd(), STDERR_FILENO);
    }
    log.error(become(prepared.setup.exec_command));
    return kExitFailure;
  }

  int check(const RpcRequest& request) {
    pb::criu_resp reply = reply_to(pb::CHECK, false);
    const auto& opts = request.message.opts();
    Prepared prepared;
    // Only a log file needs a directory.
    if (opts.has_log_file() && !opts.log_to_stderr())
      prepare(request, kCheck, "check", prepared);
    else
      prepared.fine = true;
    int err = EBADRQC;
    if (prepared.fine) {
      const auto missing = missing_features(FeatureCategory::kRequired, engine_.has_feature);
      for (const Error& error : missing) prepared.place.log.error(error);
      reply.set_success(missing.empty());
      if (!missing.empty()) err = missing.front().err();
    }
    if (!reply.success()) set_failure(reply, err, prepared.place.log.first_error());
    return sent(reply);
  }

  int cpuinfo(const RpcRequest& request) {
    const bool dump = request.message.type() == pb::CPUINFO_DUMP;
    pb::criu_resp reply = reply_to(request.message.type(), false);
    Prepared prepared;
    prepare(request, kCpuinfo, dump ? "cpuinfo dump" : "cpuinfo check", prepared);
    int err = EBADRQC;
    if (prepared.fine) {
      const Result<> done = run_cpuinfo(engine_, prepared.setup.settings, prepared.place, dump);
      reply.set_success(done.has_value());
      if (!done) err = done.error().err();
    }
    if (!reply.success()) set_failure(reply, err, prepared.place.log.first_error());
    return sent(reply);
  }

  int version() {
    pb::criu_resp reply = reply_to(pb::VERSION, true);
    // No gitid: clients round a version that has one up to the next minor version.
    reply.mutable_version()->set_major_number(kReferenceMajor);
    reply.mutable_version()->set_minor_number(kReferenceMinor);
    return sent(reply);
  }

  int feature_check(const pb::criu_req& request) {
    pb::criu_resp reply = reply_to(pb::FEATURE_CHECK, request.has_features());
    if (request.has_features()) {
      const auto& has = engine_.has_feature;
      const auto& asked = request.features();
      auto& answer = *reply.mutable_features();
      answer.set_mem_track(asked.mem_track() && check_feature("mem_dirty_track", has).has_value());
      answer.set_lazy_pages(asked.lazy_pages() && check_feature("uffd-noncoop", has).has_value());
      answer.set_pidfd_store(asked.pidfd_store() && check_feature("pidfd_store", has).has_value());
    }
    return sent(reply);
  }

  int wait_pid(const pb::criu_req& request) {
    int status = 0;
    const bool waited = ::waitpid(static_cast<pid_t>(request.pid()), &status, 0) > 0;
    pb::criu_resp reply = reply_to(pb::WAIT_PID, waited);
    if (waited)
      reply.set_status(status);
    else
      reply.set_cr_errno(errno);
    return sent(reply);
  }

  // A request that is known and not built. The log that it would have had tells so too, if it can
  // be had.
  int refuse(const RpcRequest& request, pb::criu_req_type type, int code, std::string_view why) {
    const std::string name = pb::criu_req_type_Name(request.message.type());
    const Error error = Error::unsupported(std::string(why)).object("RPC request " + name);
    Workplace place;
    const auto client = channel_.peer_pid();
    if (request.message.has_opts() && client)
      (void)place.open(settings_from_request(base_, request.message.opts(), *client, {}).settings,
                       true);
    place.report(name, {&error, 1});
    pb::criu_resp reply = reply_to(type, false);
    set_failure(reply, error.err(), place.log.first_error());
    return sent(reply) == kExitSuccess ? code : kExitProtocol;
  }

  int sent(const pb::criu_resp& reply) {
    return channel_.send(reply) ? kExitSuccess : kExitProtocol;
  }

  RpcChannel channel_;
  const Settings& base_;
  const EngineApi& engine_;
};

}  // namespace

int serve_rpc(int socket, const Settings& base, const EngineApi& engine) {
  return Server(socket, base, engine).run();
}

Error become(const std::vector<std::string>& words) {
  ::signal(SIGPIPE, SIG_DFL);
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  ::execvp(arguments[0], arguments.data());
  return Error::kernel("exec", errno).object(words[0]);
}

}  // namespace dormouse::shim
