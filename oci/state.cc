#include "oci/state.h"

#include "oci/json.h"

namespace dormouse::oci {
namespace {

// Also the layout's version. A later one that older programs must not touch gets a higher number.
constexpr std::string_view kMark = "dormouse";
constexpr std::uint64_t kLayout = 1;
constexpr std::string_view kRemedy = "remove the container's state directory once its processes are gone";

}  // namespace

bool is_own_state(std::string_view text) {
  const auto document = Document::parse(text, "state.json", "");
  if (!document) return false;
  const auto mark = document->root().find(kMark);
  return mark && *mark;
}

Result<State> parse_state(std::string_view text, const std::string& file) {
  const Document document = TRY(Document::parse(text, file, std::string(kRemedy)));
  const Node root = document.root();
  State state;
  std::uint64_t layout = 0;
  TRY(root.need(kMark, layout));
  if (layout != kLayout) return fail(TRY(root.member(kMark)).wrong("written by a newer version of dormouse"));
  TRY(root.need("id", state.id));
  TRY(root.need("pid", state.pid));
  TRY(root.need("pid_start_ticks", state.pid_start_ticks));
  TRY(root.need("created", state.created));
  TRY(root.need("bundle", state.bundle));
  TRY(root.need("rootfs", state.rootfs));
  TRY(root.need("cgroup_paths", state.cgroup_paths));
  TRY(root.read("external_descriptors", state.external_descriptors));
  return state;
}

std::string format_state(const State& state) {
  return ObjectWriter()
             .add(kMark, kLayout)
             .add("id", state.id)
             .add("pid", static_cast<std::int64_t>(state.pid))
             .add("pid_start_ticks", state.pid_start_ticks)
             .add("created", state.created)
             .add("bundle", state.bundle)
             .add("rootfs", state.rootfs)
             .add("cgroup_paths", state.cgroup_paths)
             .add("external_descriptors", state.external_descriptors)
             .text() +
         "\n";
}

std::string format_public_state(const PublicState& state) {
  ObjectWriter writer;
  writer.add("ociVersion", state.oci_version)
      .add("id", state.id)
      .add("status", state.status)
      .add("pid", static_cast<std::int64_t>(state.pid))
      .add("bundle", state.bundle);
  if (!state.rootfs.empty()) writer.add("rootfs", state.rootfs);
  if (!state.created.empty()) writer.add("created", state.created);
  if (!state.annotations.empty()) writer.add("annotations", state.annotations);
  return writer.text();
}

}  // namespace dormouse::oci
