#include "engine/tree_images.h"

#include <signal.h>

#include <optional>

namespace dormouse::engine {
namespace {

Result<> save_kinship(const DumpContext& context) {
  auto pstree = TRY(context.out.create(images::kPstree));
  for (const auto& task : context.tree.tasks) {
    pb::pstree_entry entry;
    entry.set_pid(static_cast<std::uint32_t>(task->ns_pid));
    entry.set_ppid(task->parent ? static_cast<std::uint32_t>(task->parent->ns_pid) : 0);
    entry.set_pgid(static_cast<std::uint32_t>(task->ns_pgid));
    entry.set_sid(static_cast<std::uint32_t>(task->ns_sid));
    for (const Thread& thread : task->threads) entry.add_threads(static_cast<std::uint32_t>(thread.ns_tid));
    TRY(pstree.append(entry));
  }
  return pstree.finish();
}

Result<> save_ids(const DumpContext& context) {
  for (const auto& task : context.tree.tasks) {
    if (!task->alive()) continue;
    pb::task_kobj_ids_entry ids;
    ids.set_vm_id(task->vm_id);
    ids.set_files_id(task->files_id);
    ids.set_fs_id(task->fs_id);
    ids.set_sighand_id(task->sighand_id);
    fill_namespace_ids(context.namespaces->ids_of(*task), ids);
    TRY(context.out.write(images::kIds, task->ns_pid, ids));
  }
  return {};
}

Result<> save_exit_signals(const DumpContext& context) {
  std::optional<images::Writer> writer;
  for (const auto& task : context.tree.tasks) {
    // The root's is its restorer's business.
    if (task->exit_signal == SIGCHLD || !task->parent) continue;
    if (!writer) writer.emplace(TRY(context.out.create(images::kExitSignals)));
    pb::exit_signal_entry entry;
    entry.set_pid(static_cast<std::uint32_t>(task->ns_pid));
    entry.set_signal(static_cast<std::uint32_t>(task->exit_signal));
    TRY(writer->append(entry));
  }
  return writer ? writer->finish() : Result<>{};
}

}  // namespace

void fill_namespace_ids(const NamespaceIds& ns, pb::task_kobj_ids_entry& ids) {
  ids.set_pid_ns_id(ns.pid);
  ids.set_net_ns_id(ns.net);
  ids.set_ipc_ns_id(ns.ipc);
  ids.set_uts_ns_id(ns.uts);
  ids.set_mnt_ns_id(ns.mnt);
  ids.set_user_ns_id(ns.user);
  if (ns.cgroup != 0) ids.set_cgroup_ns_id(ns.cgroup);
  if (ns.time != 0) ids.set_time_ns_id(ns.time);
}

Result<> save_tree(const DumpContext& context) {
  TRY(save_kinship(context));
  TRY(save_ids(context));
  return save_exit_signals(context);
}

}  // namespace dormouse::engine
