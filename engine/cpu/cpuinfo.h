// cpuinfo.img: what the CPU of the dumping node could do.
#pragma once

#include "base/error.h"
#include "engine/options.h"
#include "images/directory.h"

namespace dormouse::engine {

// As a part of a checkpoint.
[[nodiscard]] Result<> save_cpu(images::OutputDirectory& out);
// On its own, into a directory that may hold a checkpoint or not.
[[nodiscard]] Result<> save_cpu(int images_dir);
// Compares the record in the directory with this CPU. Without a record: kCorruptImage.
[[nodiscard]] Result<> check_cpu(int images_dir, const CpuChecks& checks);

}  // namespace dormouse::engine
