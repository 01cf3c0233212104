// What every saver of a resource gets. Passed by reference; nothing here is global.
#pragma once

#include "base/log.h"
#include "engine/blockers.h"
#include "engine/options.h"
#include "engine/tree.h"
#include "images/directory.h"

namespace dormouse::engine {

class PageTracking;

struct DumpContext {
  const CheckpointOptions& options;
  Log& log;
  images::OutputDirectory& out;
  const Tree& tree;
  Blockers& blockers;
  PageTracking* tracking = nullptr;  // null: nobody asks which pages were written
};

}  // namespace dormouse::engine
