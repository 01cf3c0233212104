// The engine as the shim calls it: values, so that tests can put something else in its place.
#pragma once

#include <expected>
#include <functional>

#include "engine/options.h"
#include "kernel/features.h"

namespace dormouse::shim {

using CheckpointResult = std::expected<engine::CheckpointReport, engine::Failures>;
using RestoreResult = std::expected<engine::RestoreReport, engine::Failures>;

struct EngineApi {
  std::function<CheckpointResult(const engine::CheckpointOptions&)> checkpoint;
  std::function<RestoreResult(const engine::RestoreOptions&)> restore;
  std::function<bool(sys::Feature)> has_feature;  // of this kernel
  // Of this CPU, into and from cpuinfo.img in a directory of images.
  std::function<Result<>(int images_dir)> save_cpu{};
  std::function<Result<>(int images_dir, const engine::CpuChecks&)> check_cpu{};
  std::function<CheckpointResult(const engine::CheckpointOptions&)> pre_dump;
  std::function<Result<>(int images_dir)> dedup;
};

}  // namespace dormouse::shim
