// What every saver of a resource gets. Passed by reference; nothing here is global.
#pragma once

#include <cstdint>

#include "base/log.h"
#include "engine/blockers.h"
#include "engine/files/leases.h"
#include "engine/memory/memory_mounts.h"
#include "engine/options.h"
#include "engine/tree.h"
#include "images/directory.h"

namespace dormouse::engine {

class NamespacesDump;
class PageTracking;

struct DumpContext {
  const CheckpointOptions& options;
  Log& log;
  images::OutputDirectory& out;
  const Tree& tree;
  Blockers& blockers;
  PageTracking* tracking = nullptr;  // null: nobody asks which pages were written
  // Numbers of the network namespaces of the root task and of the engine (NamespaceIds).
  std::uint32_t network_id = 0, outside_network_id = 0;
  const MemoryMounts memory_mounts = MemoryMounts::look();
  const NamespacesDump* namespaces = nullptr;  // null: nobody has looked at them
  Leases leases = {};
};

}  // namespace dormouse::engine
