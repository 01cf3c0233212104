#include "base/error.h"

#include <cerrno>
#include <cstring>

namespace dormouse {

Error Error::kernel(std::string_view operation, int err) {
  std::string reason(operation);
  reason += ": ";
  reason += ::strerrordesc_np(err) ? ::strerrordesc_np(err) : "unknown error";
  if (const char* name = ::strerrorname_np(err)) {
    reason += " (";
    reason += name;
    reason += ')';
  }
  return {Kind::kKernel, err, std::move(reason)};
}

Error Error::unsupported(std::string reason) {
  return {Kind::kUnsupported, ENOTSUP, std::move(reason)};
}
Error Error::corrupt(std::string reason) { return {Kind::kCorruptImage, EBADMSG, std::move(reason)}; }
Error Error::task_died(std::string reason) { return {Kind::kTaskDied, ESRCH, std::move(reason)}; }
Error Error::bad_option(std::string reason) { return {Kind::kBadOption, EINVAL, std::move(reason)}; }
Error Error::conflict(std::string reason, int err) {
  return {Kind::kConflict, err, std::move(reason)};
}

namespace {
void set_once(std::string& field, std::string text) {
  if (field.empty()) field = std::move(text);
}
}  // namespace

Error&& Error::object(std::string text) && {
  set_once(object_, std::move(text));
  return std::move(*this);
}
Error&& Error::owner(std::string text) && {
  set_once(owner_, std::move(text));
  return std::move(*this);
}
Error&& Error::remedy(std::string text) && {
  set_once(remedy_, std::move(text));
  return std::move(*this);
}
Error&& Error::during(std::string_view activity) && {
  std::string reason(activity);
  reason += ": ";
  reason += reason_;
  reason_ = std::move(reason);
  return std::move(*this);
}

int Error::err() const { return err_ > 0 ? err_ : EIO; }

std::string Error::message() const {
  std::string text = object_;
  if (!owner_.empty()) {
    if (!text.empty()) text += " of ";
    text += owner_;
  }
  if (!text.empty()) text += ": ";
  text += reason_;
  if (!remedy_.empty()) {
    text += " (";
    text += remedy_;
    text += ')';
  }
  for (char& c : text)
    if (c == '\n' || c == '\r') c = ' ';
  return text;
}

}  // namespace dormouse
