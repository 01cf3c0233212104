#include "engine/inventory.h"

#include <ctime>

#include "cgroups/save.h"
#include "engine/tree_images.h"
#include "images/schema/inventory.pb.h"

namespace dormouse::engine {
namespace {

// Time since boot, by which the reference engine tells a task from a later one with the same pid.
std::uint64_t uptime_microseconds() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000 + static_cast<std::uint64_t>(now.tv_nsec) / 1000;
}

// Which variant of the format this is.
pb::inventory_entry begin_inventory() {
  pb::inventory_entry inventory;
  inventory.set_img_version(2);
  inventory.set_fdinfo_per_id(true);
  inventory.set_ns_per_id(true);
  return inventory;
}

}  // namespace

Result<> save_inventory(const DumpContext& context, bool probed) {
  pb::inventory_entry inventory = begin_inventory();
  pb::task_kobj_ids_entry& own = *inventory.mutable_root_ids();
  own.set_vm_id(1);
  own.set_files_id(1);
  own.set_fs_id(1);
  own.set_sighand_id(1);
  fill_namespace_ids(context.namespaces->outside(), own);
  inventory.set_root_cg_set(cgroups::SavedCgroups::kOwnSet);
  inventory.set_lsmtype(pb::NO_LSM);
  inventory.set_tcp_close(context.options.tcp_close);
  if (probed) inventory.set_allow_uprobes(true);
  if (context.options.track_memory) inventory.set_dump_uptime(uptime_microseconds());
  // Nothing is locked by the engine: connections are not saved yet.
  inventory.set_network_lock_method(0);
  return context.out.write(images::kInventory, std::nullopt, inventory);
}

Result<> save_pre_dump_inventory(const DumpContext& context) {
  pb::inventory_entry inventory = begin_inventory();
  inventory.set_dump_uptime(uptime_microseconds());
  inventory.set_pre_dump_mode(static_cast<std::uint32_t>(context.options.pre_dump_mode));
  return context.out.write(images::kInventory, std::nullopt, inventory);
}

Result<> check_tracking(const PageTracking& tracking, const CheckpointOptions& options) {
  if (!options.track_memory || tracking.possible()) return {};
  return fail(Error::unsupported("this kernel cannot tell which pages were written")
                  .object("option --track-mem").owner("the dump")
                  .remedy("it takes CONFIG_MEM_SOFT_DIRTY, or Linux 6.7 with CONFIG_USERFAULTFD; dump without"));
}

}  // namespace dormouse::engine
