#include "images/summary.h"

#include <iterator>
#include <map>

#include "base/format.h"
#include "images/catalogue.h"
#include "images/schema/files.pb.h"
#include "images/schema/inventory.pb.h"
#include "images/schema/memory.pb.h"
#include "images/schema/mounts.pb.h"
#include "images/schema/task.pb.h"

namespace dormouse::images {

namespace {

constexpr std::uint64_t kPageBytes = 4096;
// task_core_entry.task_state; both mean a task that has ended.
constexpr std::uint32_t kDead = 2, kZombie = 6;

// Flags of pagemap_entry.
constexpr std::uint32_t kInParent = 1, kLazy = 2, kPresent = 4;

template <class Record>
Result<std::uint32_t> count(const InputDirectory& images, const ImageType& type, std::uint64_t number = 0) {
  if (!images.exists(type, number)) return 0;  // a file without records is not written
  Reader reader = TRY(images.reader(type, number));
  Record record;
  std::uint32_t records = 0;
  while (TRY(reader.next(record))) ++records;
  return records;
}

struct Pages {
  std::uint64_t present = 0, parent = 0, lazy = 0;
};

Result<Pages> count_pages(const InputDirectory& images, const ImageType& type, std::uint64_t number) {
  Pages pages;
  if (!images.exists(type, number)) return pages;
  Reader reader = TRY(images.reader(type, number));
  pb::pagemap_head head;
  pb::pagemap_entry entry;
  if (!TRY(reader.next(head))) return pages;
  while (TRY(reader.next(entry))) {
    const std::uint64_t n = entry.has_nr_pages() ? entry.nr_pages() : entry.compat_nr_pages();
    // Images from before there were flags: pages were here unless said to be in the parent.
    const std::uint32_t flags =
        entry.has_flags() ? entry.flags() : (entry.in_parent() ? kInParent : kPresent);
    if (flags & kPresent) pages.present += n;
    else if (flags & kInParent) pages.parent += n;
    else if (flags & kLazy) pages.lazy += n;
  }
  return pages;
}

Result<std::uint32_t> table_of_files(const InputDirectory& images, const pb::core_entry& core,
                                     std::uint32_t pid) {
  if (core.has_ids()) return core.ids().files_id();
  pb::task_kobj_ids_entry ids;
  TRY(images.read(kIds, pid, ids));
  return ids.files_id();
}

Result<> add_memory(const InputDirectory& images, TaskSummary& task) {
  if (!images.exists(kMm, task.pid)) return {};
  pb::mm_entry memory;
  TRY(images.read(kMm, task.pid, memory));
  task.mappings = static_cast<std::uint64_t>(memory.vmas_size());
  for (const pb::vma_entry& area : memory.vmas()) task.mapped_bytes += area.end() - area.start();
  const Pages pages = TRY(count_pages(images, kPagemap, task.pid));
  task.pages = pages.present;
  task.parent_pages = pages.parent;
  task.lazy_pages = pages.lazy;
  return {};
}

Result<TaskSummary> summarize_task(const InputDirectory& images, const pb::pstree_entry& entry) {
  TaskSummary task{.pid = entry.pid(), .parent_pid = entry.ppid(), .process_group = entry.pgid(),
                   .session = entry.sid(), .comm = {},
                   .threads = static_cast<std::uint32_t>(entry.threads_size())};
  pb::core_entry core;
  TRY(images.read(kCore, task.pid, core));
  task.comm = core.tc().comm();
  task.zombie = core.tc().task_state() == kDead || core.tc().task_state() == kZombie;
  if (task.zombie) return task;  // it has neither files nor memory
  const std::uint32_t table = TRY(table_of_files(images, core, task.pid));
  task.descriptors = TRY(count<pb::fdinfo_entry>(images, kFdinfo, table));
  TRY(add_memory(images, task));
  return task;
}

Result<> add_files(const InputDirectory& images, Summary& summary) {
  for (const auto all = TRY(images.list()); const auto& [name, size] : all) {
    ++summary.image_files;
    summary.image_bytes += size;
    const auto found = find_kind(name);
    if (!found) continue;
    const ImageType* type = found->kind->type;
    if (type == &kPages) summary.page_file_bytes += size;
    if (type == &kMountpoints) summary.mounts += TRY(count<pb::mnt_entry>(images, *type, *found->number));
    if (type == &kShmemPagemap) {
      const Pages pages = TRY(count_pages(images, *type, *found->number));
      summary.shared_pages += pages.present;
    }
  }
  return {};
}

// A task's name is the task's own choice: nothing of it may reach a terminal as a command.
std::string printable(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = '?';
  return text;
}

std::string task_line(const TaskSummary& task, int depth) {
  std::string line = format("{:>7}  {:{}}{}", task.pid, "", 2 * depth, printable(task.comm));
  if (task.zombie) return line + "  (zombie)\n";
  line += format("  {} thread{}, {} descriptor{}, {} in {} mapping{}, {} saved", task.threads,
                 task.threads == 1 ? "" : "s", task.descriptors, task.descriptors == 1 ? "" : "s",
                 bytes_text(task.mapped_bytes), task.mappings, task.mappings == 1 ? "" : "s",
                 bytes_text(task.pages * kPageBytes));
  if (task.parent_pages) line += format(", {} in the parent", bytes_text(task.parent_pages * kPageBytes));
  if (task.lazy_pages) line += format(", {} on demand", bytes_text(task.lazy_pages * kPageBytes));
  return line + "\n";
}

}  // namespace

Result<Summary> summarize(const InputDirectory& images) {
  Summary summary;
  if (images.has_manifest()) {
    summary.seal = Summary::Seal::kSealed;
    summary.engine_version = images.engine_version();
  }
  Reader tree = TRY(images.reader(kPstree));
  pb::pstree_entry entry;
  while (TRY(tree.next(entry))) {
    summary.tasks.push_back(TRY(summarize_task(images, entry)));
    summary.threads += summary.tasks.back().threads;
  }
  summary.open_files = TRY(count<pb::file_entry>(images, kFiles));
  TRY(add_files(images, summary));
  return summary;
}

std::string bytes_text(std::uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  std::size_t unit = 0;
  double value = static_cast<double>(bytes);
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  return format("{:.{}f} {}", value, unit > 0 && value < 10 ? 1 : 0, kUnits[unit]);
}

std::string summary_text(const Summary& summary) {
  std::string text =
      summary.seal == Summary::Seal::kSealed
          ? format("sealed checkpoint, made by dormouse {}\n", printable(summary.engine_version))
          : "checkpoint without a manifest\n";
  text += format("{} task{}, {} thread{}, {} open file{}, {} mount{}\n", summary.tasks.size(),
                 summary.tasks.size() == 1 ? "" : "s", summary.threads, summary.threads == 1 ? "" : "s",
                 summary.open_files, summary.open_files == 1 ? "" : "s", summary.mounts,
                 summary.mounts == 1 ? "" : "s");
  text += format("{} image files, {}, of which {} pages\n", summary.image_files, bytes_text(summary.image_bytes),
                 bytes_text(summary.page_file_bytes));
  std::map<std::uint32_t, int> depth;
  for (const TaskSummary& task : summary.tasks) {
    const auto parent = depth.find(task.parent_pid);
    depth[task.pid] = parent == depth.end() ? 0 : parent->second + 1;
    text += task_line(task, depth[task.pid]);
  }
  return text;
}

}  // namespace dormouse::images
