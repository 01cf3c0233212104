// The options: one table for the command line, for configuration files and, by name, for RPC.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "shim/settings.h"

namespace dormouse::shim {

enum class Argument : unsigned char {
  kNone,      // --name
  kFlag,      // --name and --no-name
  kRequired,  // --name VALUE, --name=VALUE
  kOptional,  // --name, --name=VALUE
};

struct OptionUse;

struct Option {
  std::string_view name;
  char letter = 0;  // the short form, or 0
  Argument argument = Argument::kNone;
  unsigned where = kEveryCommand;  // commands for which it means something; others ignore it
  std::string_view value_name{};   // for the help text
  std::string_view help{};         // empty: understood, not advertised

  // Exactly one of these. A flag that is set or cleared; anything else that is done with a use;
  // the reason why an option of the reference cannot be had yet.
  bool& (*flag)(Settings&) = nullptr;
  Result<> (*apply)(Settings&, const OptionUse&) = nullptr;
  std::string_view missing{};
};

// One occurrence of an option.
struct OptionUse {
  const Option* option = nullptr;
  std::optional<std::string> value{};
  bool on = true;  // false: --no-name
  std::string
      origin{};  // how the user knows it: "option --name", "name in /etc/criu/default.conf:3"

  std::string_view text() const { return value ? std::string_view(*value) : std::string_view(); }
};

std::span<const Option> option_table();
const Option* find_option(std::string_view name);
const Option* find_option(char letter);
// The option of a long name as it is written: "name", or "no-name" of a flag (`on` becomes false). The
// beginning of a name will do where only one name begins so, as it always has with getopt_long(). kBadOption
// for unknown names and for beginnings of several.
struct Spelling {
  const Option* option = nullptr;
  bool on = true;
};
[[nodiscard]] Result<Spelling> find_spelling(std::string_view name);

// Checks that there is a value where one belongs, then sets what the option stands for.
[[nodiscard]] Result<> apply(Settings& settings, const OptionUse& use);

// The text of --help.
std::string help_text();

}  // namespace dormouse::shim
