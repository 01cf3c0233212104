// Small steps for the parsers of this folder: each consumes from the front of a line.
#pragma once

#include <charconv>
#include <concepts>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/format.h"
#include "base/text.h"

namespace dormouse::proc {

class Scan {
 public:
  explicit Scan(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}

  bool ok() const { return ok_; }
  bool at_end() const { return at_ == end_; }
  std::string_view rest() const { return {at_, static_cast<std::size_t>(end_ - at_)}; }

  template <std::integral T>
  T number(int base = 10) {
    T value{};
    const auto [next, code] = std::from_chars(at_, end_, value, base);
    ok_ &= code == std::errc{};
    at_ = next;
    return value;
  }
  void expect(char c) {
    ok_ &= at_ != end_ && *at_ == c;
    if (at_ != end_) ++at_;
  }
  // The next character is one of two: true for the first.
  bool either(char yes, char no) {
    if (at_ == end_) return ok_ = false;
    const char c = *at_++;
    ok_ &= c == yes || c == no;
    return c == yes;
  }
  void blanks() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\t')) ++at_;
  }
  std::string_view word() {
    const char* const begin = at_;
    while (at_ != end_ && *at_ != ' ' && *at_ != '\t') ++at_;
    return {begin, static_cast<std::size_t>(at_ - begin)};
  }

 private:
  const char* at_;
  const char* end_;
  bool ok_ = true;
};

// The kernel's text did not look as expected: a bug of ours or a newer kernel.
inline Error unexpected_line(std::string_view file, std::string_view line) {
  return Error::unsupported(format("cannot understand this line of {}: '{}'", file, line));
}

// Undoes \ooo escapes.
std::string unescape_octal(std::string_view text);

}  // namespace dormouse::proc
