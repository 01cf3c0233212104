// The process in which a container is restored.
//
// It enters the container's cgroups, so that whatever the engine makes is born there, and goes away
// with everything it had opened. The runtime stays outside: hooks run and the state is kept in its own
// cgroup, and if the worker dies (a limit that is too low, say), there is somebody left to clean up.
// The two talk over a socket pair: notifications of the engine and their answers, then the outcome.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "engine/options.h"
#include "shim/engine_api.h"
#include "shim/oci_signals.h"

namespace dormouse::shim {

class RestoreWorker {
 public:
  // Forks. `work` runs in the new process, with the signal mask from before `signals`; its
  // notifications reach serve(). The root task must become a sibling of the worker, that is, our child.
  static Result<RestoreWorker> start(const std::function<RestoreResult(const engine::Notify&)>& work,
                                     const SignalReader& signals);
  RestoreWorker(RestoreWorker&&) noexcept;
  RestoreWorker& operator=(RestoreWorker&&) = delete;
  ~RestoreWorker();  // kills it, if it still runs

  // Answers notifications until the worker is done, and reaps it. Returns the root task's pid. Before
  // "post-restore" a signal that asks us to end makes it an error, and the worker goes with this
  // object; later ones stay in `signals`, for the container.
  Result<pid_t> serve(const engine::Notify& watcher, const SignalReader& signals);

 private:
  RestoreWorker(pid_t pid, Fd channel) : pid_(pid), channel_(std::move(channel)) {}
  Result<pid_t> outcome_of(std::string_view message);
  Result<> answer(std::string_view message, const engine::Notify& watcher, int descriptor);
  Error how_it_ended();

  pid_t pid_ = 0;
  Fd channel_;
};

}  // namespace dormouse::shim
