// The "linux" section of config.json.
#pragma once

#include "oci/config.h"
#include "oci/json.h"

namespace dormouse::oci {

// Fills the fields of `config` that come from this section; its default devices give way to listed
// ones of the same path.
[[nodiscard]] Result<> parse_linux(const Node& node, Config& config);

}  // namespace dormouse::oci
