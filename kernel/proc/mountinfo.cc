#include "kernel/proc/mountinfo.h"

#include "base/text.h"
#include "kernel/proc/scan.h"

namespace dormouse::proc {

namespace {

// Reads "shared:1 master:2 -" up to the dash. Unknown words may come with new kernels.
void parse_propagation(Scan& scan, MountInfo& mount) {
  while (scan.ok()) {
    std::string_view word = scan.word();
    scan.expect(' ');
    if (word == "-") return;
    std::uint32_t* group = nullptr;
    if (consume_prefix(word, "shared:")) group = &mount.shared;
    else if (consume_prefix(word, "master:")) group = &mount.master;
    else if (consume_prefix(word, "propagate_from:")) group = &mount.propagate_from;
    else if (word == "unbindable") mount.unbindable = true;
    if (group) *group = parse_number<std::uint32_t>(word).value_or(0);
  }
}

bool parse_mount(std::string_view line, MountInfo& mount) {
  Scan scan(line);
  const auto text = [&](std::string& to, bool unescape) {
    const std::string_view word = scan.word();
    if (unescape && word.find('\\') != std::string_view::npos) to = unescape_octal(word);
    else to = word;
  };
  mount.id = scan.number<std::uint32_t>();
  scan.expect(' ');
  mount.parent_id = scan.number<std::uint32_t>();
  scan.expect(' ');
  mount.device_major = scan.number<std::uint32_t>();
  scan.expect(':');
  mount.device_minor = scan.number<std::uint32_t>();
  scan.expect(' ');
  text(mount.root, true);
  scan.expect(' ');
  text(mount.mount_point, true);
  scan.expect(' ');
  text(mount.options, false);
  scan.expect(' ');
  parse_propagation(scan, mount);
  text(mount.type, true);
  scan.expect(' ');
  text(mount.source, true);
  scan.expect(' ');
  text(mount.super_options, false);
  return scan.ok();
}

}  // namespace

Result<std::vector<MountInfo>> parse_mountinfo(std::string_view text) {
  std::vector<MountInfo> all;
  while (!text.empty()) {
    const std::string_view line = take_until(text, '\n');
    if (!parse_mount(line, all.emplace_back())) return fail(unexpected_line("mountinfo", line));
  }
  return all;
}

bool has_option(std::string_view options, std::string_view word) {
  while (!options.empty())
    if (take_until(options, ',') == word) return true;
  return false;
}

}  // namespace dormouse::proc
