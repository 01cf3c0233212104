// What went wrong, said so that a person can act on it and a caller can branch on it.
//
// A complete message names four things in one line: which object, whose, why, and what to do.
// The place that fails knows the reason; callers on the way up add object, owner and remedy.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace dormouse {

class [[nodiscard]] Error {
 public:
  enum class Kind : unsigned char {
    kKernel,        // a system call failed; err() is its errno
    kUnsupported,   // a state that this engine or this kernel cannot save or restore
    kCorruptImage,  // an image that is damaged, incomplete or contradicts itself
    kTaskDied,      // a task ended while we were working on it: an ordinary outcome
    kBadOption,     // what the caller asked for makes no sense
    kConflict,      // something else already has what we need (a pid, a cgroup, a path)
  };

  static Error kernel(std::string_view operation, int err);
  static Error unsupported(std::string reason);
  static Error corrupt(std::string reason);
  static Error task_died(std::string reason);
  static Error bad_option(std::string reason);
  static Error conflict(std::string reason, int err);

  // The four things. Each is set once: an outer caller does not overwrite what an inner one knew.
  Error&& object(std::string text) &&;
  Error&& owner(std::string text) &&;
  Error&& remedy(std::string text) &&;
  // Context, put in front of the reason: "while reading maps: …".
  Error&& during(std::string_view activity) &&;

  Kind kind() const { return kind_; }
  bool is_kernel(int err) const { return kind_ == Kind::kKernel && err_ == err; }
  // The errno that explains this failure to a program; never 0.
  int err() const;
  const std::string& object() const { return object_; }
  const std::string& owner() const { return owner_; }
  const std::string& reason() const { return reason_; }
  const std::string& remedy() const { return remedy_; }
  // One line, without final period: "OBJECT of OWNER: REASON (REMEDY)".
  std::string message() const;

 private:
  Error(Kind kind, int err, std::string reason) : kind_(kind), err_(err), reason_(std::move(reason)) {}

  Kind kind_;
  int err_ = 0;
  std::string object_, owner_, reason_, remedy_;
};

template <class T = void>
using Result = std::expected<T, Error>;

using Failure = std::unexpected<Error>;

// `return fail(Error::…)` from any function that returns a Result.
inline Failure fail(Error error) { return Failure(std::move(error)); }

namespace detail {
// By value: what TRY() yields must not refer into the statement expression that it came from.
template <class T>
T take_value(Result<T>& result) {
  return std::move(result).value();
}
}  // namespace detail

}  // namespace dormouse

#define DORMOUSE_TRY_(expression, amend, result)                    \
  __extension__({                                                    \
    auto result = (expression);                                      \
    if (!result) [[unlikely]] {                                      \
      [[maybe_unused]] ::dormouse::Error e = std::move(result).error(); \
      return ::dormouse::fail(amend);                                \
    }                                                                \
    ::dormouse::detail::take_value(result);                          \
  })
#define DORMOUSE_TRY_JOIN_(a, b) a##b
#define DORMOUSE_TRY_NAME_(number) DORMOUSE_TRY_JOIN_(try_result_, number)

// Unwraps a Result or returns its error from the enclosing function.
//
// Not to be bound to a reference, nor iterated over directly: g++ does not extend the life of what a
// statement expression yields. Write `for (const auto all = TRY(list()); const auto& one : all)`;
// scripts/check-layers refuses the other form.
#define TRY(expression) DORMOUSE_TRY_(expression, std::move(e), DORMOUSE_TRY_NAME_(__COUNTER__))

// As TRY; `amend` is an expression over `e`, an Error&&, that yields the Error to return:
//   TRY_OR(sys::fstat(fd), std::move(e).object("fd 7").owner(task.name()))
#define TRY_OR(expression, amend) DORMOUSE_TRY_(expression, amend, DORMOUSE_TRY_NAME_(__COUNTER__))
