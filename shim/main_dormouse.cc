// Containers, put to sleep and woken by name.
#include <signal.h>

#include "engine/checkpoint.h"
#include "engine/cpu/cpuinfo.h"
#include "engine/dedup.h"
#include "engine/predump.h"
#include "engine/restore.h"
#include "shim/dormouse_program.h"

int main(int argc, char** argv) {
  using namespace dormouse;
  // A peer that is gone is an error of that write. An ignored SIGCHLD would make waiting impossible.
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
  return shim::dormouse_program(argc, argv, engine);
}
