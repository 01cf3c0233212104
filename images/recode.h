// Copying a checkpoint by decoding every record and encoding it again.
#pragma once

#include "base/error.h"
#include "images/directory.h"

namespace dormouse::images {

// All images of `from`, which must not be the directory of `to`. What comes out has the same bytes if the
// source is in canonical form. `to` is not sealed.
[[nodiscard]] Result<> recode(const InputDirectory& from, OutputDirectory& to);

}  // namespace dormouse::images
