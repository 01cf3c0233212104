// Reading the kernel's text: splitting and numbers, without exceptions or locale.
#pragma once

#include <charconv>
#include <concepts>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dormouse {

// The whole text as one number, or nothing. Leading blanks, signs on unsigned types, trailing text: nothing.
template <std::integral T>
std::optional<T> parse_number(std::string_view text, int base = 10) {
  T value{};
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (code != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Fields between single separators; empty fields are kept.
std::vector<std::string_view> split(std::string_view text, char separator);
// Fields between runs of blanks and tabs; no empty fields.
std::vector<std::string_view> split_blanks(std::string_view text);
// The part before the first separator; `rest` becomes what follows it (empty if there is none).
std::string_view take_until(std::string_view& rest, char separator);
std::string_view trim(std::string_view text);
bool consume_prefix(std::string_view& text, std::string_view prefix);

}  // namespace dormouse
