// The one file that needs the YAML library, which throws and takes long to compile.
#include <yaml-cpp/yaml.h>

#include <algorithm>

#include "base/format.h"
#include "cgroups/properties.h"

namespace dormouse::cgroups {

Result<> PropertyTable::merge_yaml(const std::string& text) {
  const auto bad = [](std::string reason) {
    return fail(Error::bad_option(std::move(reason)).object("cgroup properties"));
  };
  try {
    for (const auto& entry : YAML::Load(text)) {
      const auto controller = entry.first.as<std::string>();
      std::string strategy;
      std::vector<std::string> names;
      for (const auto& item : entry.second) {
        if (item["strategy"]) strategy = item["strategy"].as<std::string>();
        if (item["properties"]) names = item["properties"].as<std::vector<std::string>>();
      }
      auto& known = by_controller_[controller];
      if (strategy == "replace") known.clear();
      else if (strategy != "merge")
        return bad(format("the strategy for '{}' must be merge or replace, not '{}'", controller, strategy));
      for (auto& name : names) {
        if (name.empty() || name.find('/') != std::string::npos)
          return bad(format("'{}' is not a property of '{}'", name, controller));
        if (std::ranges::find(known, name) == known.end()) known.push_back(std::move(name));
      }
    }
  } catch (const YAML::Exception& e) {
    return bad(e.what());
  }
  return {};
}

}  // namespace dormouse::cgroups
