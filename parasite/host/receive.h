// A puppet or held task receives descriptors over a socket.
#pragma once

#include <cstddef>

#include "parasite/host/program.h"

namespace dormouse::parasite {

// Receives one message with `count` descriptors (at most 253) on `socket`. The answer: where the numbers
// they got are stored, 32 bits each. They are not close-on-exec.
DataRef append_receive(Program& program, int socket, std::size_t count);

}  // namespace dormouse::parasite
