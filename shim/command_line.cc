#include "shim/command_line.h"

#include <algorithm>
#include <cctype>
#include <ranges>

#include "base/text.h"

namespace dormouse::shim {
namespace {

class Parser {
 public:
  explicit Parser(std::span<const char* const> words) : words_(words) {}

  Result<CommandLine> run() {
    while (next_ < words_.size()) {
      std::string_view word = words_[next_++];
      if (word == "--") {
        for (; next_ < words_.size(); ++next_) line_.operands.emplace_back(words_[next_]);
      } else if (consume_prefix(word, "--")) {
        TRY(long_option(word));
      } else if (word.size() > 1 && consume_prefix(word, "-")) {
        TRY(letters(word));
      } else {
        line_.operands.emplace_back(word);
      }
    }
    return std::move(line_);
  }

 private:
  // --name, --name=VALUE, --name VALUE, --no-name.
  Result<> long_option(std::string_view word) {
    const bool assigned = word.find('=') != std::string_view::npos;
    std::string_view rest = word;
    const std::string_view name = take_until(rest, '=');
    const Spelling spelling = TRY_OR(find_spelling(name), std::move(e).object(format("--{}", name)));
    OptionUse use{.option = spelling.option, .on = spelling.on, .origin = format("option --{}", name)};
    if (assigned)
      use.value = std::string(rest);
    else if (use.option->argument == Argument::kRequired)
      TRY(take_value(use));
    line_.uses.push_back(std::move(use));
    return {};
  }

  // -abc, -DVALUE, -D VALUE, -v4, -vvv.
  Result<> letters(std::string_view word) {
    while (!word.empty()) {
      const char letter = word.front();
      word.remove_prefix(1);
      OptionUse use{.origin = format("option -{}", letter)};
      use.option = find_option(letter);
      if (!use.option)
        return fail(Error::bad_option("unknown option").object(format("-{}", letter)));
      switch (use.option->argument) {
        case Argument::kNone:
        case Argument::kFlag:
          break;
        case Argument::kRequired:
          if (word.empty())
            TRY(take_value(use));
          else
            use.value = std::string(word);
          word = {};
          break;
        case Argument::kOptional:
          if (!word.empty())
            use.value = std::string(word);
          else if (letter == 'v')
            take_lone_digit(use);
          word = {};
          break;
      }
      line_.uses.push_back(std::move(use));
    }
    return {};
  }

  Result<> take_value(OptionUse& use) {
    if (next_ == words_.size())
      return fail(Error::bad_option("it needs a value").object(use.origin));
    use.value = words_[next_++];
    return {};
  }

  // The first manual wrote "-v 4". No command is a digit, but swrk's operand may be one.
  void take_lone_digit(OptionUse& use) {
    if (next_ == words_.size() || !line_.operands.empty()) return;
    const std::string_view word = words_[next_];
    if (word.size() != 1 || !std::isdigit(static_cast<unsigned char>(word[0]))) return;
    use.value = std::string(word);
    ++next_;
  }

  std::span<const char* const> words_;
  std::size_t next_ = 0;
  CommandLine line_;
};

struct CommandName {
  std::string_view name;
  Command command;
};
constexpr CommandName kCommands[] = {
    {"dump", kDump},       {"pre-dump", kPreDump},
    {"restore", kRestore}, {"check", kCheck},
    {"swrk", kSwrk},       {"page-server", kPageServer},
    {"service", kService}, {"lazy-pages", kLazyPages},
    {"dedup", kDedup},     {"cpuinfo", kCpuinfo},
    {"exec", kExec},       {"show", kShow},
};

}  // namespace

bool CommandLine::has(std::string_view option) const {
  return std::ranges::any_of(uses,
                             [&](const OptionUse& use) { return use.option->name == option; });
}

std::optional<std::string> CommandLine::value_of(std::string_view option) const {
  for (const OptionUse& use : std::views::reverse(uses))
    if (use.option->name == option) return use.value;
  return std::nullopt;
}

Result<CommandLine> parse_command_line(std::span<const char* const> words) {
  return Parser(words).run();
}

Result<Command> parse_command(const CommandLine& line) {
  if (line.operands.empty())
    return fail(Error::bad_option("a command is needed").remedy("see --help"));
  for (const CommandName& known : kCommands)
    if (line.operands[0] == known.name) return known.command;
  return fail(Error::bad_option("unknown command").object(line.operands[0]).remedy("see --help"));
}

}  // namespace dormouse::shim
