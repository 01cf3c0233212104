// What every restorer of a resource gets.
#pragma once

#include "base/log.h"
#include "engine/options.h"
#include "engine/plan/image.h"
#include "images/directory.h"

namespace dormouse::engine {

struct RestoreContext {
  const RestoreOptions& options;
  Log& log;
  const images::InputDirectory& in;
  const Image& image;
};

}  // namespace dormouse::engine
