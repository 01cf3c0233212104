// The images that are about the tree as a whole: who is whose child (pstree.img), which of their kernel objects are the same
// (ids-PID.img), and what a parent gets when a child ends (exit-signals.img).
#pragma once

#include "engine/dump_context.h"
#include "engine/namespaces/namespaces.h"
#include "images/schema/kinship.pb.h"

namespace dormouse::engine {

// After NamespacesDump::identify() and identify_shared().
[[nodiscard]] Result<> save_tree(const DumpContext& context);

void fill_namespace_ids(const NamespaceIds& ns, pb::task_kobj_ids_entry& ids);

}  // namespace dormouse::engine
