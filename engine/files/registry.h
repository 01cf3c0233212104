// The kinds of open file, in the order in which they are asked.
#pragma once

#include <memory>
#include <vector>

#include "engine/files/file_kind.h"

namespace dormouse::engine {

using FileKinds = std::vector<std::unique_ptr<FileKind>>;

// Fresh instances for one dump or one restore.
FileKinds all_file_kinds();

// Null if none of them knows such a file.
FileKind* kind_of(const FileKinds& kinds, const OpenFile& file);
FileKind* kind_of_type(const FileKinds& kinds, int type);

}  // namespace dormouse::engine
