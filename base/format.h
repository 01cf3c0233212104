// fmt, in its light form. base/format.cc holds the one heavy instantiation.
#pragma once

#include <fmt/core.h>

namespace dormouse {
using fmt::format;
}  // namespace dormouse
