// From words to option uses. Options and operands may be mixed; "--" ends the options.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "shim/option_table.h"

namespace dormouse::shim {

struct CommandLine {
  std::vector<OptionUse> uses;
  std::vector<std::string> operands;  // the first one is the command

  bool has(std::string_view option) const;
  // The value of the last use.
  std::optional<std::string> value_of(std::string_view option) const;
};

// `words` is argv without the program's name.
Result<CommandLine> parse_command_line(std::span<const char* const> words);

// The command, or an error that names the word. "cpuinfo dump" and "cpuinfo check" are two words.
Result<Command> parse_command(const CommandLine& line);

}  // namespace dormouse::shim
