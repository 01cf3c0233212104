// The versions that callers see.
#pragma once

#include <string_view>

namespace dormouse::shim {

// The version whose command line, RPC and image format are spoken. Callers compare it against the
// versions that brought the features they need; 4.2 opens every gate there is.
inline constexpr int kReferenceMajor = 4;
inline constexpr int kReferenceMinor = 2;
inline constexpr std::string_view kReferenceVersion = "4.2";

// Our own; CMakeLists.txt has the number.
extern const std::string_view kDormouseVersion;

}  // namespace dormouse::shim
