#include "engine/plan/image.h"

#include <algorithm>
#include <set>

#include "base/format.h"
#include "engine/memory/vma_kind.h"

namespace dormouse::engine {
namespace {

constexpr std::uint32_t kTaskAlive = 1, kTaskStopped = 3;  // task_core_entry.task_state
constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kUserEnd = 0x7fff'ffff'f000;
constexpr std::uint32_t kInParent = 1;  // pagemap_entry.flags

Error contradiction(const ImageTask& task, std::string reason) {
  return Error::corrupt(std::move(reason)).object(format("task {}", task.tree.pid())).owner("the image");
}

std::uint64_t pages_in(const pb::pagemap_entry& entry) {
  return entry.has_nr_pages() ? entry.nr_pages() : entry.compat_nr_pages();
}

template <class Pagemap>
Result<> load_pagemap(const images::InputDirectory& in, const images::ImageType& type, std::uint64_t number,
                      Pagemap& into) {
  auto reader = TRY(in.reader(type, number));
  pb::pagemap_head head;
  if (!TRY(reader.next(head))) return fail(Error::corrupt("empty page map").object(reader.name()));
  into.pages_number = head.pages_id();
  pb::pagemap_entry entry;
  while (TRY(reader.next(entry))) {
    if ((entry.flags() & kInParent) || entry.in_parent())
      return fail(Error::unsupported("pages are in a parent image").object(reader.name()).remedy(
          "restoring from a chain of incremental images is not supported yet"));
    if (entry.vaddr() % kPage != 0 || pages_in(entry) > kUserEnd / kPage ||
        entry.vaddr() > kUserEnd - pages_in(entry) * kPage)
      return fail(Error::corrupt(format("a run of pages at {:#x} lies outside any address space", entry.vaddr()))
                      .object(reader.name()));
    entry.set_nr_pages(pages_in(entry));
    into.pagemap.push_back(entry);
  }
  return {};
}

Result<> check_vmas(const Image& image, const ImageTask& task) {
  std::uint64_t previous = 0;
  bool guarded = false;
  for (const pb::vma_entry& vma : task.mm->vmas()) {
    if (vma.status() & vma_status::kVsyscall) continue;
    if (is_guard(vma)) {
      if (vma.start() % kPage || vma.end() % kPage || vma.start() >= vma.end() || vma.end() > kUserEnd)
        return fail(contradiction(task, format("guard {:x}-{:x} is not a valid range", vma.start(), vma.end())));
      guarded = true;
      continue;
    }
    if (guarded) return fail(contradiction(task, "a mapping comes behind the guards"));
    if (vma.start() % kPage || vma.end() % kPage || vma.start() >= vma.end() || vma.start() < previous ||
        vma.end() > kUserEnd)
      return fail(contradiction(task, format("mapping {:x}-{:x} is not a valid range", vma.start(), vma.end())));
    previous = vma.end();
    if (is_file_mapping(vma) && !image.files.contains(static_cast<std::uint32_t>(vma.shmid())))
      return fail(contradiction(task, format("mapping {:x}-{:x} names file {}, which is not in files.img",
                                             vma.start(), vma.end(), vma.shmid())));
    if (is_shared_anonymous(vma) && !image.shmem.contains(vma.shmid()))
      return fail(contradiction(task, format("shared memory {} has no page map", vma.shmid())));
  }
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

Result<> load_descriptors(const images::InputDirectory& in, Image& image, const ImageTask& task) {
  const std::uint32_t id = task.ids.files_id();
  if (image.descriptors.contains(id)) return {};
  auto& table = image.descriptors[id];
  auto reader = TRY(in.reader(images::kFdinfo, id));
  std::set<std::uint32_t> numbers;
  pb::fdinfo_entry entry;
  while (TRY(reader.next(entry))) {
    if (!image.files.contains(entry.id()))
      return fail(contradiction(task, format("descriptor {} refers to file {}, which is not in files.img",
                                             entry.fd(), entry.id())));
    if (entry.fd() > 1 << 20 || !numbers.insert(entry.fd()).second)
      return fail(contradiction(task, format("descriptor {} is impossible or appears twice", entry.fd())));
    table.push_back(entry);
  }
  return {};
}

Result<> load_shmem(const images::InputDirectory& in, Image& image, const ImageTask& task) {
  for (const pb::vma_entry& vma : task.mm->vmas()) {
    if (!is_shared_anonymous(vma) || image.shmem.contains(vma.shmid())) continue;
    auto& object = image.shmem[vma.shmid()];
    if (in.exists(images::kShmemPagemap, vma.shmid()))
      TRY(load_pagemap(in, images::kShmemPagemap, vma.shmid(), object));
  }
  return {};
}

Result<> load_memfds(const images::InputDirectory& in, Image& image) {
  if (in.exists(images::kMemfdInode)) {
    auto reader = TRY(in.reader(images::kMemfdInode));
    pb::memfd_inode_entry inode;
    while (TRY(reader.next(inode))) {
      if (inode.inode_id() > UINT32_MAX || inode.size() > kUserEnd)
        return fail(reader.corrupt(format("object {} of {} bytes is impossible", inode.inode_id(), inode.size())));
      if (!image.memfds.emplace(static_cast<std::uint32_t>(inode.inode_id()), inode).second)
        return fail(reader.corrupt(format("object {} appears twice", inode.inode_id())));
      if (in.exists(images::kShmemPagemap, inode.shmid()) && !image.shmem.contains(inode.shmid()))
        TRY(load_pagemap(in, images::kShmemPagemap, inode.shmid(), image.shmem[inode.shmid()]));
    }
  }
  for (const auto& [id, file] : image.files)
    if (file.has_memfd() && !image.memfds.contains(file.memfd().inode_id()))
      return fail(Error::corrupt(format("open file {} is of memfd {}, which is not in memfd.img", id, file.memfd().inode_id()))
                      .object("files.img"));
  return {};
}

Result<> load_task(const images::InputDirectory& in, Image& image, ImageTask& task) {
  const std::uint32_t pid = task.tree.pid();
  TRY(in.read(images::kCore, pid, task.core));
  if (!task.core.has_tc()) return fail(contradiction(task, "its core image says nothing about the process"));
  if (!task.alive()) return {};
  TRY(in.read(images::kIds, pid, task.ids));
  for (const std::uint32_t tid : task.tree.threads())
    if (tid != pid) TRY(in.read(images::kCore, tid, task.thread_cores[tid]));
  TRY(in.read(images::kMm, pid, task.mm.emplace()));
  TRY(load_pagemap(in, images::kPagemap, pid, task));
  TRY(load_shmem(in, image, task));
  TRY(in.read(images::kFs, pid, task.fs.emplace()));
  TRY(load_descriptors(in, image, task));
  return check_vmas(image, task);
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

}  // namespace

bool ImageTask::alive() const {
  return core.tc().task_state() == kTaskAlive || core.tc().task_state() == kTaskStopped;
}

Result<Image> load_image(const images::InputDirectory& in) {
  Image image;
  TRY(in.read(images::kInventory, std::nullopt, image.inventory));
  auto tree = TRY(in.reader(images::kPstree));
  pb::pstree_entry entry;
  while (TRY(tree.next(entry))) {
    ImageTask task;
    task.tree = entry;
    image.tasks.push_back(std::move(task));
  }
  if (image.tasks.empty()) return fail(Error::corrupt("no tasks").object("pstree.img"));
  TRY(check_tree(image));
  TRY(load_files(in, image));
  TRY(load_memfds(in, image));
  for (ImageTask& task : image.tasks) TRY(load_task(in, image, task));
  if (!image.tasks.front().alive())
    return fail(Error::unsupported("the root task is a zombie").object("pstree.img"));
  TRY(load_mounts(in, image));
  if (in.exists(images::kCgroup)) TRY(in.read(images::kCgroup, std::nullopt, image.cgroups.emplace()));
  if (in.exists(images::kSeccomp)) TRY(in.read(images::kSeccomp, std::nullopt, image.seccomp.emplace()));
  return image;
}

}  // namespace dormouse::engine
