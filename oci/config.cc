#include "oci/config.h"

#include <algorithm>

#include "base/format.h"
#include "base/text.h"
#include "oci/config_linux.h"
#include "oci/json.h"

namespace dormouse::oci {
namespace {

constexpr std::string_view kRemedy = "correct the bundle's config.json";

std::string absolute(const std::string& path, const std::string& base) {
  return path.starts_with('/') ? clean_path(path) : clean_path(base + "/" + path);
}

Result<Mount> parse_mount(const Node& node, const std::string& bundle) {
  Mount mount;
  TRY(node.need("destination", mount.destination));
  if (mount.destination.empty()) return fail(TRY(node.member("destination")).wrong("is empty"));
  mount.destination = clean_path(mount.destination);
  if (mount.destination == "/")
    return fail(TRY(node.member("destination")).wrong("a mount over the container's root is not possible"));
  TRY(node.read("type", mount.type));
  TRY(node.read("source", mount.source));
  TRY(node.read("options", mount.options));
  if (mount.is_bind()) {
    if (mount.source.empty()) return fail(node.wrong("a bind mount needs a source"));
    mount.source = absolute(mount.source, bundle);
  }
  return mount;
}

Result<std::vector<Hook>> parse_hooks(const Node& hooks, std::string_view kind) {
  std::vector<Hook> list;
  for (const auto all = TRY(hooks.list(kind)); const Node& node : all) {
    Hook& hook = list.emplace_back();
    TRY(node.need("path", hook.path));
    if (!hook.path.starts_with('/')) return fail(TRY(node.member("path")).wrong("must be absolute"));
    TRY(node.read("args", hook.args));
    TRY(node.read("env", hook.env));
    std::optional<std::uint32_t> timeout;
    TRY(node.read("timeout", timeout));
    if (timeout == 0u) return fail(TRY(node.member("timeout")).wrong("must be more than 0 seconds"));
    if (timeout) hook.timeout = std::chrono::seconds(*timeout);
  }
  return list;
}

Result<Hooks> parse_all_hooks(const Node& node) {
  Hooks hooks;
  hooks.prestart = TRY(parse_hooks(node, "prestart"));
  hooks.create_runtime = TRY(parse_hooks(node, "createRuntime"));
  hooks.create_container = TRY(parse_hooks(node, "createContainer"));
  hooks.start_container = TRY(parse_hooks(node, "startContainer"));
  hooks.poststart = TRY(parse_hooks(node, "poststart"));
  hooks.poststop = TRY(parse_hooks(node, "poststop"));
  return hooks;
}

Result<> parse_process(const Node& node, Config& config) {
  TRY(node.read("terminal", config.terminal));
  TRY(node.read("apparmorProfile", config.apparmor_profile));
  return node.read("selinuxLabel", config.selinux_label);
}

Result<> parse_root(const Node& node, Config& config, const std::string& bundle) {
  std::string path;
  TRY(node.need("path", path));
  if (path.empty()) return fail(TRY(node.member("path")).wrong("is empty"));
  config.rootfs = absolute(path, bundle);
  return node.read("readonly", config.rootfs_readonly);
}

}  // namespace

bool Mount::is_bind() const {
  return type == "bind" || std::ranges::any_of(options, [](const std::string& option) {
           return option == "bind" || option == "rbind";
         });
}

const Namespace* Config::find_namespace(NamespaceKind kind) const {
  const auto found = std::ranges::find(namespaces, kind, &Namespace::kind);
  return found == namespaces.end() ? nullptr : &*found;
}

Result<Config> parse_config(std::string_view text, const std::string& file, const std::string& bundle) {
  const Document document = TRY(Document::parse(text, file, std::string(kRemedy)));
  const Node root = document.root();
  Config config;
  TRY(root.need("ociVersion", config.oci_version));
  const Node root_part = TRY(root.member("root"));
  TRY(parse_root(root_part, config, bundle));
  for (const auto all = TRY(root.list("mounts")); const Node& node : all) config.mounts.push_back(TRY(parse_mount(node, bundle)));
  if (const auto process = TRY(root.find("process"))) TRY(parse_process(*process, config));
  if (const auto hooks = TRY(root.find("hooks"))) config.hooks = TRY(parse_all_hooks(*hooks));
  TRY(root.read("annotations", config.annotations));
  config.devices = default_devices();
  if (const auto linux_part = TRY(root.find("linux"))) TRY(parse_linux(*linux_part, config));
  return config;
}

std::string clean_path(std::string_view path) {
  std::vector<std::string_view> parts;
  for (const auto part : split(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part != "..")
      parts.push_back(part);
    else if (!parts.empty())
      parts.pop_back();
  }
  std::string clean;
  for (const auto part : parts) {
    clean += '/';
    clean += part;
  }
  return clean.empty() ? "/" : clean;
}

Result<> check_container_id(std::string_view id) {
  constexpr std::size_t kMaxBytes = 255;  // NAME_MAX
  const auto refuse = [&](std::string reason) -> Result<> {
    return fail(Error::bad_option(std::move(reason))
                    .object(format("container id '{}'", id))
                    .remedy("letters, digits and the characters _ + - . make up an id"));
  };
  if (id.empty()) return refuse("is empty");
  if (id.size() > kMaxBytes) return refuse(format("is longer than {} bytes", kMaxBytes));
  if (id == "." || id == "..") return refuse("names a directory of its own");
  for (const char c : id) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!letter && std::string_view("_+-.").find(c) == std::string_view::npos)
      return refuse(format("holds the character {}", json_quoted(std::string_view(&c, 1))));
  }
  return {};
}

}  // namespace dormouse::oci
