// The version of these programs. CMakeLists.txt says the same.
#pragma once

#include <string_view>

namespace dormouse {
inline constexpr std::string_view kVersion = "0.1.0";
}  // namespace dormouse
