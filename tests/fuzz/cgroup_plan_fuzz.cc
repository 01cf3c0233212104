// Any cgroup record: planning must end in a plan that stays inside its hierarchies, or in a named error.
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "cgroups/layout.h"
#include "cgroups/plan.h"
#include "images/schema/cgroups.pb.h"

using namespace dormouse;

namespace {

void must(bool true_for_every_plan) {
  if (!true_for_every_plan) std::abort();
}
void check_path(std::string_view path) {
  must(path.starts_with('/') && cgroups::relative_path(path).has_value());
}

void check(const Result<cgroups::Plan>& plan) {
  if (!plan) return must(!plan.error().reason().empty());
  for (const auto& hierarchy : plan->hierarchies)
    for (const auto& group : hierarchy.groups) {
      check_path(group.path);
      for (const auto& property : group.properties)
        must(!property.name.empty() && property.name.find('/') == property.name.npos);
    }
  for (const auto& set : plan->sets)
    for (const auto& member : set.members) {
      must(member.hierarchy < plan->hierarchies.size());
      check_path(member.path);
      if (member.namespace_root) must(cgroups::is_below(member.path, *member.namespace_root));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kBeforeTheRecord = 12;  // two magic numbers and a length
  pb::cgroup_entry record;
  if (size < kBeforeTheRecord ||
      !record.ParsePartialFromArray(data + kBeforeTheRecord, static_cast<int>(size - kBeforeTheRecord)))
    return 0;
  const std::vector<cgroups::RootOverride> roots = {{"", true, "/new/root"}, {"cpu", false, "/"}};
  check(cgroups::make_plan(record, {}));
  check(cgroups::make_plan(record, roots));
  return 0;
}
