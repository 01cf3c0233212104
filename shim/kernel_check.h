// `criu check`: is this kernel good enough?
//
// Names and categories are those that callers know. A feature asked for by name is there only if
// both the kernel and we have it, since callers ask in order to use it next.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "kernel/features.h"

namespace dormouse::shim {

using HasFeature = std::function<bool(sys::Feature)>;

enum class FeatureCategory : unsigned char {
  kRequired,  // nothing works without
  kExtra,     // needed by some trees of tasks
  kExperimental,
  kByNameOnly,  // in no category: asked for by name
};

// Unknown names are kBadOption, what is missing is kUnsupported with the name as object.
[[nodiscard]] Result<> check_feature(std::string_view name, const HasFeature& has);
// What the kernel lacks of a category.
std::vector<Error> missing_features(FeatureCategory category, const HasFeature& has);
std::vector<std::string_view> feature_names();

}  // namespace dormouse::shim
