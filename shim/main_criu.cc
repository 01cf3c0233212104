// The drop-in `criu`.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "engine/checkpoint.h"
#include "engine/cpu/cpuinfo.h"
#include "engine/dedup.h"
#include "engine/predump.h"
#include "engine/restore.h"
#include "shim/criu_program.h"

int main(int argc, char** argv) {
  using namespace dormouse;
  // Callers may start us with closed standard descriptors; what we open must not take their place.
  for (int fd; (fd = ::open("/dev/null", O_RDWR)) >= 0;)
    if (fd > STDERR_FILENO) {
      ::close(fd);
      break;
    }
  // A peer that is gone is an error of that write. An ignored SIGCHLD would make waiting
  // impossible.
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGCHLD, SIG_DFL);

  const sys::Features features;
  const shim::EngineApi engine{
      .checkpoint = engine::checkpoint,
      .restore = engine::restore,
      .has_feature = [&features](sys::Feature feature) { return features.has(feature); },
      .save_cpu = [](int images_dir) { return engine::save_cpu(images_dir); },
      .check_cpu = [](int images_dir, const engine::CpuChecks& checks) { return engine::check_cpu(images_dir, checks); },
      .pre_dump = engine::pre_dump,
      .dedup = engine::dedup,
  };
  const std::span words(const_cast<const char* const*>(argv), static_cast<std::size_t>(argc));
  return shim::criu_program(words.subspan(argc > 0 ? 1 : 0), shim::config_files_from_environment(),
                            engine, {});
}
