#include "engine/plan/image.h"

#include <algorithm>
#include <set>

#include "base/format.h"
#include "base/pages.h"
#include "base/parallel.h"
#include "engine/files/file_locks.h"
#include "engine/ipc/aio_ring.h"
#include "engine/memory/memory_attributes.h"
#include "engine/memory/vma_kind.h"
#include "images/manifest.h"
#include "images/own_types.h"
#include "images/schema/kinship.pb.h"

namespace dormouse::engine {
namespace {

constexpr std::uint32_t kTaskAlive = 1, kTaskStopped = 3;  // task_core_entry.task_state

Error contradiction(const ImageTask& task, std::string reason) {
  return Error::corrupt(std::move(reason)).object(format("task {}", task.tree.pid())).owner("the image");
}

Result<> check_vmas(const Image& image, const ImageTask& task) {
  std::uint64_t previous = 0;
  bool guarded = false;
  for (const pb::vma_entry& vma : task.mm->vmas()) {
    if (vma.status() & vma_status::kVsyscall) continue;
    if (is_guard(vma)) {
      if (!is_page_range(vma.start(), vma.end()))
        return fail(contradiction(task, format("guard {:x}-{:x} is not a valid range", vma.start(), vma.end())));
      guarded = true;
      continue;
    }
    if (guarded) return fail(contradiction(task, "a mapping comes behind the guards"));
    if (!is_page_range(vma.start(), vma.end()) || vma.start() < previous)
      return fail(contradiction(task, format("mapping {:x}-{:x} is not a valid range", vma.start(), vma.end())));
    previous = vma.end();
    if (is_file_mapping(vma) && !image.files.contains(static_cast<std::uint32_t>(vma.shmid())))
      return fail(contradiction(task, format("mapping {:x}-{:x} names file {}, which is not in files.img",
                                             vma.start(), vma.end(), vma.shmid())));
    if (is_shared_anonymous(vma) && !image.shmem.contains(vma.shmid()))
      return fail(contradiction(task, format("shared memory {} has no page map", vma.shmid())));
  }
  if (const auto rings = check_aio_rings(*task.mm); !rings) return fail(contradiction(task, rings.error().reason()));
  if (const auto attributes = check_memory_attributes(task.memory_attributes); !attributes)
    return fail(contradiction(task, attributes.error().reason()));
  if (!image.files.contains(task.mm->exe_file_id()))
    return fail(contradiction(task, "its executable is not in files.img"));
  return {};
}

Result<> load_files(const images::InputDirectory& in, Image& image) {
  auto files = TRY(in.reader(images::kFiles));
  pb::file_entry file;
  while (TRY(files.next(file))) {
    if (!image.files.emplace(file.id(), file).second)
      return fail(Error::corrupt(format("file id {} appears twice", file.id())).object("files.img"));
  }
  return {};
}

using Descriptors = std::vector<pb::fdinfo_entry>;

Result<Descriptors> read_descriptors(const images::InputDirectory& in, std::uint32_t id) {
  Descriptors table;
  // A file that would have no records is not written.
  if (!in.exists(images::kFdinfo, id)) return table;
  auto reader = TRY(in.reader(images::kFdinfo, id));
  pb::fdinfo_entry entry;
  while (TRY(reader.next(entry))) table.push_back(entry);
  return table;
}

Result<> take_descriptors(Image& image, const ImageTask& task, Descriptors table) {
  std::set<std::uint32_t> numbers;
  for (const pb::fdinfo_entry& entry : table) {
    if (!image.files.contains(entry.id()))
      return fail(contradiction(task, format("descriptor {} refers to file {}, which is not in files.img",
                                             entry.fd(), entry.id())));
    if (entry.fd() > 1 << 20 || !numbers.insert(entry.fd()).second)
      return fail(contradiction(task, format("descriptor {} is impossible or appears twice", entry.fd())));
  }
  image.descriptors.try_emplace(task.ids.files_id(), std::move(table));
  return {};
}

Result<> load_shmem(images::Chain& chain, Image& image, const ImageTask& task) {
  for (const pb::vma_entry& vma : task.mm->vmas()) {
    if (!is_shared_anonymous(vma) || image.shmem.contains(vma.shmid())) continue;
    auto& object = image.shmem[vma.shmid()];
    if (chain[0].exists(images::kShmemPagemap, vma.shmid()))
      object.pages = TRY(find_pages(chain, images::kShmemPagemap, vma.shmid(), image.page_files));
  }
  return {};
}

Result<> load_memfds(images::Chain& chain, Image& image) {
  const images::InputDirectory& in = chain[0];
  if (in.exists(images::kMemfdInode)) {
    auto reader = TRY(in.reader(images::kMemfdInode));
    pb::memfd_inode_entry inode;
    while (TRY(reader.next(inode))) {
      if (inode.inode_id() > UINT32_MAX || inode.size() > kUserEnd)
        return fail(reader.corrupt(format("object {} of {} bytes is impossible", inode.inode_id(), inode.size())));
      if (!image.memfds.emplace(static_cast<std::uint32_t>(inode.inode_id()), inode).second)
        return fail(reader.corrupt(format("object {} appears twice", inode.inode_id())));
      if (in.exists(images::kShmemPagemap, inode.shmid()) && !image.shmem.contains(inode.shmid()))
        image.shmem[inode.shmid()].pages = TRY(find_pages(chain, images::kShmemPagemap, inode.shmid(), image.page_files));
    }
  }
  for (const auto& [id, file] : image.files)
    if (file.has_memfd() && !image.memfds.contains(file.memfd().inode_id()))
      return fail(Error::corrupt(format("open file {} is of memfd {}, which is not in memfd.img", id, file.memfd().inode_id()))
                      .object("files.img"));
  return {};
}

Result<> check_segment(const images::Reader& reader, const ImageSegment& segment) {
  const std::uint64_t size = segment.entry.size(), id = segment.entry.desc().id();
  const std::uint32_t shift = segment.entry.hugetlb_flag() >> 26;
  if (size == 0 || size > kUserEnd || id > INT32_MAX)
    return fail(reader.corrupt(format("shared memory {} of {} bytes is impossible", id, size)));
  if (segment.entry.hugetlb_flag() != 0 && (shift < 12 || shift > 34))
    return fail(reader.corrupt(format("huge pages of 2^{} bytes are impossible", shift)));
  if (!segment.entry.in_pagemaps())
    return fail(Error::unsupported("its content is kept in a form that engines before version 3 wrote")
                    .object(format("System V shared memory {}", id)).remedy("checkpoint anew with a later version"));
  for (const PageRun& run : segment.pages)
    if (run.end > segment.mapped_bytes())
      return fail(reader.corrupt(format("shared memory {} has pages behind its end", id)));
  return {};
}

Result<> load_segments(images::Chain& chain, Image& image) {
  const std::uint32_t number = image.tasks.front().ids.ipc_ns_id();
  if (!chain[0].exists(images::kIpcnsShm, number)) return {};
  auto reader = TRY(chain[0].reader(images::kIpcnsShm, number));
  ImageSegment segment;
  while (TRY(reader.next(segment.entry))) {
    const std::uint64_t id = segment.entry.desc().id();
    segment.pages.clear();
    if (chain[0].exists(images::kShmemPagemap, id))
      segment.pages = TRY(find_pages(chain, images::kShmemPagemap, id, image.page_files));
    TRY(check_segment(reader, segment));
    if (!image.segments.emplace(id, segment).second)
      return fail(reader.corrupt(format("shared memory {} appears twice", id)));
  }
  return {};
}

Result<> check_attachments(const Image& image, const ImageTask& task) {
  if (!task.mm) return {};
  for (const pb::vma_entry& vma : task.mm->vmas()) {
    if (!is_segment(vma)) continue;
    const auto segment = image.segments.find(vma.shmid());
    if (segment == image.segments.end())
      return fail(contradiction(task, format("mapping {:x}-{:x} is of System V shared memory {}, which is not in the images",
                                             vma.start(), vma.end(), vma.shmid())));
    const std::uint64_t bytes = segment->second.mapped_bytes();
    if (vma.pgoff() % kPage || vma.pgoff() > bytes || vma.end() - vma.start() > bytes - vma.pgoff())
      return fail(contradiction(task, format("mapping {:x}-{:x} is larger than System V shared memory {}", vma.start(),
                                             vma.end(), vma.shmid())));
  }
  return {};
}

Result<> check_directories(const Image& image, const ImageTask& task) {
  for (const auto& [tid, attributes] : task.attributes) {
    const pb::own_directories_entry& own = attributes.directories();
    if (attributes.has_directories() && (!image.files.contains(own.cwd_id()) || !image.files.contains(own.root_id())))
      return fail(contradiction(task, format("directories of thread {} are not in files.img", tid)));
  }
  return {};
}

Result<> load_attributes(const images::InputDirectory& in, ImageTask& task) {
  constexpr std::size_t kMostCpus = 8192;  // CONFIG_NR_CPUS can be no more
  if (!in.exists(images::kDormouseTask, task.tree.pid())) return {};
  auto reader = TRY(in.reader(images::kDormouseTask, task.tree.pid()));
  pb::thread_attributes_entry entry;
  while (TRY(reader.next(entry))) {
    if (std::ranges::find(task.tree.threads(), entry.tid()) == task.tree.threads().end() ||
        !task.attributes.emplace(entry.tid(), entry).second)
      return fail(reader.corrupt(format("thread {} does not belong here or appears twice", entry.tid())));
    if (entry.cpus().size() > kMostCpus / 8)
      return fail(reader.corrupt(format("a set of {} CPUs", 8 * entry.cpus().size())));
  }
  return {};
}

// What the files of one process's own say, before it is compared with the rest.
struct OwnFiles {
  PageMap pages;
  Descriptors descriptors;
};

Result<> load_threads(const images::InputDirectory& in, ImageTask& task) {
  std::vector<std::pair<const std::uint32_t, pb::core_entry>*> others;
  for (const std::uint32_t tid : task.tree.threads())
    if (tid != task.tree.pid()) others.push_back(&*task.thread_cores.try_emplace(tid).first);
  return in_parallel(others.size(), [&](std::size_t i) { return in.read(images::kCore, others[i]->first, others[i]->second); });
}

// Touches nothing but the task and what it returns: many are read at a time.
Result<OwnFiles> load_own_files(const images::InputDirectory& in, ImageTask& task) {
  const std::uint32_t pid = task.tree.pid();
  TRY(in.read(images::kIds, pid, task.ids));
  TRY(load_threads(in, task));
  TRY(load_attributes(in, task));
  TRY(in.read(images::kMm, pid, task.mm.emplace()));
  if (in.exists(images::kDormouseMemory, pid)) TRY(in.read(images::kDormouseMemory, pid, task.memory_attributes));
  TRY(in.read(images::kFs, pid, task.fs.emplace()));
  return OwnFiles{TRY(read_page_map(in, images::kPagemap, pid)), TRY(read_descriptors(in, task.ids.files_id()))};
}

Result<> load_tasks(images::Chain& chain, Image& image) {
  std::vector<OwnFiles> own(image.tasks.size());
  TRY(in_parallel(own.size(), [&](std::size_t i) -> Result<> {
    if (image.tasks[i].alive()) own[i] = TRY(load_own_files(chain[0], image.tasks[i]));
    return {};
  }));
  for (std::size_t i = 0; i < own.size(); ++i) {
    ImageTask& task = image.tasks[i];
    if (!task.alive()) continue;
    task.pages = TRY(find_pages(chain, images::kPagemap, task.tree.pid(), std::move(own[i].pages), image.page_files));
    TRY(load_shmem(chain, image, task));
    TRY(take_descriptors(image, task, std::move(own[i].descriptors)));
    TRY(check_vmas(image, task));
    TRY(check_directories(image, task));
  }
  return {};
}

Result<> load_tree(const images::InputDirectory& in, Image& image) {
  auto tree = TRY(in.reader(images::kPstree));
  pb::pstree_entry entry;
  while (TRY(tree.next(entry))) {
    ImageTask& task = image.tasks.emplace_back();
    task.tree = entry;
  }
  TRY(in_parallel(image.tasks.size(), [&](std::size_t i) {
    return in.read(images::kCore, image.tasks[i].tree.pid(), image.tasks[i].core);
  }));
  for (ImageTask& task : image.tasks) {
    if (!task.core.has_tc()) return fail(contradiction(task, "its core image says nothing about the process"));
    if (task.alive()) continue;
    // The reference leaves the thread ids of zombies to chance.
    const std::uint32_t pid = task.tree.pid();
    task.tree.clear_threads();
    task.tree.add_threads(pid);
  }
  if (image.tasks.empty()) return fail(Error::corrupt("no tasks").object("pstree.img"));
  return {};
}

Result<> check_tree(const Image& image) {
  std::set<std::uint32_t> pids, seen;
  for (const ImageTask& task : image.tasks) {
    const bool is_root = &task == &image.tasks.front();
    if (is_root != (task.tree.ppid() == 0))
      return fail(contradiction(task, "there must be one root, and it comes first"));
    if (!is_root && !seen.contains(task.tree.ppid()))
      return fail(contradiction(task, format("its parent {} does not come before it", task.tree.ppid())));
    seen.insert(task.tree.pid());
    if (task.tree.threads_size() == 0 || task.tree.threads(0) != task.tree.pid())
      return fail(contradiction(task, "its first thread is not itself"));
    for (const std::uint32_t tid : task.tree.threads())
      if (tid == 0 || tid > 1 << 22 || !pids.insert(tid).second)
        return fail(contradiction(task, format("thread id {} is impossible or appears twice", tid)));
  }
  return {};
}

Result<> load_mounts(const images::InputDirectory& in, Image& image) {
  const std::uint32_t id = image.tasks.front().ids.mnt_ns_id();
  if (id == 0 || !in.exists(images::kMountpoints, id)) return {};
  auto reader = TRY(in.reader(images::kMountpoints, id));
  pb::mnt_entry mount;
  while (TRY(reader.next(mount))) image.mounts.push_back(mount);
  return {};
}

Result<> load_exit_signals(const images::InputDirectory& in, Image& image) {
  if (!in.exists(images::kExitSignals)) return {};
  auto reader = TRY(in.reader(images::kExitSignals));
  pb::exit_signal_entry entry;
  while (TRY(reader.next(entry))) {
    if (entry.signal() > 64) return fail(reader.corrupt(format("exit signal {} of task {}", entry.signal(), entry.pid())));
    image.exit_signals[entry.pid()] = static_cast<int>(entry.signal());
  }
  return {};
}

Result<> load_locks(const images::InputDirectory& in, Image& image) {
  if (!in.exists(images::kFileLocks)) return {};
  auto reader = TRY(in.reader(images::kFileLocks));
  pb::file_lock_entry lock;
  while (TRY(reader.next(lock))) {
    TRY(check_lock(lock, image));
    image.locks.push_back(lock);
  }
  return {};
}

// Images that are not a whole checkpoint say so themselves, if they are ours.
Result<> check_completeness(const images::InputDirectory& in) {
  const images::ManifestInfo* info = in.info();
  if (!info) return {};
  if (info->pre_dump)
    return fail(Error::bad_option("these are the images of a pre-dump, which holds memory only").object(images::kManifestName)
                    .remedy("dump into another directory with --prev-images-dir, and restore from there"));
  if (info->dropped == images::Dropped::kReplaced)
    return fail(Error::corrupt("pages that a later checkpoint has too were dropped from these images")
                    .object(images::kManifestName).remedy("restore the later checkpoint"));
  return {};
}

}  // namespace

bool ImageTask::alive() const {
  return core.tc().task_state() == kTaskAlive || core.tc().task_state() == kTaskStopped;
}

bool ImageTask::is_32_bit() const { return core.thread_info().gpregs().mode() == pb::COMPAT; }

bool ImageTask::needs_32_bit_calls() const {
  const auto runs = [](const auto& thread) { return thread.second.thread_info().gpregs().mode() == pb::COMPAT; };
  const auto set = [](const pb::sa_entry& action) { return action.compat_sigaction(); };
  return is_32_bit() || std::ranges::any_of(thread_cores, runs) || std::ranges::any_of(core.tc().sigactions(), set);
}

std::uint64_t ImageSegment::mapped_bytes() const {
  const std::uint64_t page = entry.hugetlb_flag() == 0 ? kPage : std::uint64_t{1} << (entry.hugetlb_flag() >> 26 & 63);
  return (entry.size() + page - 1) / page * page;
}

Result<Image> load_image(images::Chain& chain) {
  const images::InputDirectory& in = chain[0];
  TRY(check_completeness(in));
  Image image;
  TRY(in.read(images::kInventory, std::nullopt, image.inventory));
  TRY(load_tree(in, image));
  TRY(check_tree(image));
  TRY(load_files(in, image));
  TRY(load_memfds(chain, image));
  TRY(load_tasks(chain, image));
  TRY(load_segments(chain, image));
  for (const ImageTask& task : image.tasks) TRY(check_attachments(image, task));
  if (!image.tasks.front().alive())
    return fail(Error::unsupported("the root task is a zombie").object("pstree.img"));
  TRY(load_mounts(in, image));
  TRY(load_exit_signals(in, image));
  TRY(load_locks(in, image));
  if (in.exists(images::kCgroup)) TRY(in.read(images::kCgroup, std::nullopt, image.cgroups.emplace()));
  if (in.exists(images::kSeccomp)) TRY(in.read(images::kSeccomp, std::nullopt, image.seccomp.emplace()));
  return image;
}

}  // namespace dormouse::engine
