// How the wrappers of this room turn -1 and errno into a Result. Included by their .cc files only.
#pragma once

#include <cerrno>
#include <string>

#include "base/error.h"
#include "base/fd.h"

namespace dormouse::sys {

// Repeats a call that a signal interrupted. Waits with a deadline do not go through here.
template <class Call>
auto retry(Call&& call) {
  for (;;) {
    const auto result = call();
    if (result != -1 || errno != EINTR) return result;
  }
}

inline Failure failed(std::string_view operation) { return fail(Error::kernel(operation, errno)); }

// For calls on a path: the path belongs to the reason, since the caller knows better what the object is.
inline Failure failed(std::string_view operation, const char* path) {
  const int err = errno;
  std::string text(operation);
  text += " '";
  text += path;
  text += '\'';
  return fail(Error::kernel(text, err));
}

template <class Call>
Result<> done(std::string_view operation, Call&& call) {
  if (retry(call) == -1) [[unlikely]] return failed(operation);
  return {};
}
template <class Call>
Result<> done_at(std::string_view operation, const char* path, Call&& call) {
  if (retry(call) == -1) [[unlikely]] return failed(operation, path);
  return {};
}
template <class Call>
auto value(std::string_view operation, Call&& call) -> Result<decltype(call())> {
  const auto result = retry(call);
  if (result == -1) [[unlikely]] return failed(operation);
  return result;
}
template <class Call>
Result<Fd> new_fd(std::string_view operation, Call&& call) {
  const auto result = retry(call);
  if (result == -1) [[unlikely]] return failed(operation);
  return Fd(static_cast<int>(result));
}

}  // namespace dormouse::sys
