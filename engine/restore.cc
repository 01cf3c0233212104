#include "engine/restore.h"

namespace dormouse::engine {

std::expected<RestoreReport, Failures> restore(const RestoreOptions&) {
  return std::unexpected(Failures{{Error::unsupported("restore is not built yet")}});
}

}  // namespace dormouse::engine
