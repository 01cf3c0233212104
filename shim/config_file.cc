#include "shim/config_file.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "base/text.h"
#include "kernel/file.h"

namespace dormouse::shim {
namespace {

Error syntax(std::string_view reason, std::string_view place) {
  return Error::bad_option(std::string(reason)).object(std::string(place));
}

// A value in double quotes; `rest` begins behind the opening one and ends up behind the closing
// one.
Result<std::string> quoted(std::string_view& rest, std::string_view place) {
  std::string value;
  for (std::size_t i = 0; i < rest.size(); ++i) {
    if (rest[i] == '"') {
      rest.remove_prefix(i + 1);
      return value;
    }
    if (rest[i] == '\\' && i + 1 < rest.size() && rest[i + 1] == '"') ++i;
    value += rest[i];
  }
  return fail(syntax("the closing quote is missing", place));
}

// What follows the option's name and separator. Nothing, or nothing but a comment: no value.
Result<std::optional<std::string>> parse_value(std::string_view rest, std::string_view place) {
  std::optional<std::string> value;
  rest = trim(rest);
  if (consume_prefix(rest, "\"")) {
    value = TRY(quoted(rest, place));
  } else {
    const auto end = std::min(rest.size(), rest.find_first_of(" \t#"));
    if (end > 0) value = std::string(rest.substr(0, end));
    rest.remove_prefix(end);
  }
  rest = trim(rest);
  if (!rest.empty() && rest[0] != '#') return fail(syntax("there is more after the value", place));
  return value;
}

Result<std::optional<OptionUse>> parse_line(std::string_view line, std::string_view file,
                                            int number) {
  line = trim(line);
  if (line.empty() || line[0] == '#') return std::nullopt;
  const std::string place = format("{}:{}", file, number);

  const auto name_end = std::min(line.size(), line.find_first_of(" \t=#"));
  const std::string_view name = line.substr(0, name_end);
  const std::string origin = format("\"{}\" in {}", name, place);
  const Spelling spelling = TRY_OR(find_spelling(name), std::move(e).object(origin));
  OptionUse use{.option = spelling.option, .on = spelling.on, .origin = origin};
  // They make sense only where somebody types them.
  for (const std::string_view only_typed : {"help", "version", "config", "no-default-config"})
    if (use.option->name == only_typed)
      return fail(Error::bad_option("not allowed in a configuration file").object(use.origin));

  std::string_view rest = trim(line.substr(name_end));
  const bool assigned = consume_prefix(rest, "=");
  use.value = TRY(parse_value(rest, place));
  if (assigned && !use.value) use.value.emplace();
  return use;
}

}  // namespace

Result<std::vector<OptionUse>> parse_config(std::string_view text, std::string_view name) {
  std::vector<OptionUse> uses;
  int number = 0;
  for (const std::string_view line : split(text, '\n')) {
    auto use = TRY(parse_line(line, name, ++number));
    if (use) uses.push_back(std::move(*use));
  }
  return uses;
}

Result<> apply_config_file(Settings& settings, const std::string& path) {
  auto text = sys::read_file(AT_FDCWD, path);
  if (!text) {
    if (text.error().is_kernel(ENOENT) || text.error().is_kernel(ENOTDIR)) return {};
    return fail(std::move(text).error().object("configuration file " + path));
  }
  for (const auto all = TRY(parse_config(*text, path)); const OptionUse& use : all) TRY(apply(settings, use));
  return {};
}

ConfigFiles config_files_from_environment() {
  ConfigFiles files{.global = "/etc/criu/default.conf"};
  if (const char* home = ::getenv("HOME")) files.user = std::string(home) + "/.criu/default.conf";
  if (const char* file = ::getenv("CRIU_CONFIG_FILE")) files.environment = file;
  return files;
}

Result<> apply_config_files(Settings& settings, const ConfigFiles& files) {
  for (const std::string* path : {&files.global, &files.user, &files.environment, &files.chosen})
    if (!path->empty()) TRY(apply_config_file(settings, *path));
  return {};
}

}  // namespace dormouse::shim
