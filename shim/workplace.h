// Where an operation happens: its two directories and its log.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "shim/log_file.h"
#include "shim/settings.h"

namespace dormouse::shim {

struct Workplace {
  Fd images;  // nothing where the operation needs no images
  Fd work;
  LogFile log;
  std::string report_name = "dormouse-errors.json";  // in `work`: what failed, for programs

  // Opens the directories, makes the work directory the current one (relative paths in options are
  // meant from there), and opens the log. Goes on after a failure, so that a log tells of a missing
  // images directory where it can.
  std::vector<Error> open(const Settings& settings, bool needs_images);

  // The one place where failures become visible: every one as a line of the log, all of them in
  // `report_name`.
  void report(std::string_view operation, std::span<const Error> failures,
              std::source_location where = std::source_location::current());
};

// The content of the report: {"operation": …, "failures": [{"object", "owner", "reason", "remedy",
// "errno"}, …]}.
std::string failures_as_json(std::string_view operation, std::span<const Error> failures);

}  // namespace dormouse::shim
