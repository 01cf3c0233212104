#include "shim/version.h"

namespace dormouse::shim {

const std::string_view kDormouseVersion = DORMOUSE_VERSION;

}  // namespace dormouse::shim
