#include "engine/stats.h"

#include <fcntl.h>

#include <cstring>

#include "images/schema/stats.pb.h"
#include "images/types.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

// Not part of the sealed set: it lies in the work directory and is rewritten by every operation.
Result<> write_stats(const CommonOptions& options, const images::ImageType& type,
                     const pb::stats_entry& entry) {
  const std::string record = entry.SerializeAsString();
  const std::uint32_t head[] = {images::kServiceMagic, type.magic, static_cast<std::uint32_t>(record.size())};
  std::string bytes(reinterpret_cast<const char*>(head), sizeof head);
  bytes += record;
  const int directory = options.work_dir >= 0 ? options.work_dir : options.images_dir;
  const std::string name(type.name);
  const Fd file = TRY_OR(sys::openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC, 0600),
                         std::move(e).object(name));
  return sys::write_all(file.get(), bytes);
}

std::uint32_t in_32_bits(std::chrono::microseconds time) { return static_cast<std::uint32_t>(time.count()); }

}  // namespace

Result<> write_dump_stats(const CheckpointOptions& options, const CheckpointReport& report) {
  pb::stats_entry entry;
  pb::dump_stats_entry& dump = *entry.mutable_dump();
  dump.set_freezing_time(in_32_bits(report.freezing));
  dump.set_frozen_time(in_32_bits(report.frozen));
  dump.set_memdump_time(in_32_bits(report.memory_dump));
  dump.set_memwrite_time(in_32_bits(report.memory_write));
  dump.set_pages_scanned(report.pages_scanned);
  dump.set_pages_skipped_parent(report.pages_in_parent);
  dump.set_pages_written(report.pages_written);
  dump.set_irmap_resolve(0);
  dump.set_pages_lazy(0);
  dump.set_shpages_scanned(report.shared_pages_scanned);
  dump.set_shpages_skipped_parent(0);
  dump.set_shpages_written(report.shared_pages_written);
  return write_stats(options, images::kStatsDump, entry);
}

Result<> write_restore_stats(const RestoreOptions& options, const RestoreReport& report) {
  pb::stats_entry entry;
  pb::restore_stats_entry& restore = *entry.mutable_restore();
  restore.set_pages_compared(report.pages_compared);
  restore.set_pages_skipped_cow(report.pages_kept_shared);
  restore.set_forking_time(in_32_bits(report.forking));
  restore.set_restore_time(in_32_bits(report.total));
  restore.set_pages_restored(report.pages_restored);
  return write_stats(options, images::kStatsRestore, entry);
}

}  // namespace dormouse::engine
