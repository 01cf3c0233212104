// The command line `criu`: what main() does, with everything from outside as a parameter.
#pragma once

#include <span>

#include "shim/config_file.h"
#include "shim/engine_api.h"

namespace dormouse::shim {

// Descriptors that are written to as stdout and stderr.
struct Console {
  int out = 1;
  int err = 2;
};

// `words`: argv without the program's name. `files`: the configuration files of this machine and
// user. Returns the exit code.
int criu_program(std::span<const char* const> words, const ConfigFiles& files,
                 const EngineApi& engine, const Console& console);

}  // namespace dormouse::shim
