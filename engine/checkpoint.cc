#include "engine/checkpoint.h"

namespace dormouse::engine {

std::expected<CheckpointReport, Failures> checkpoint(const CheckpointOptions&) {
  return std::unexpected(Failures{{Error::unsupported("dump is not built yet")}});
}

}  // namespace dormouse::engine
