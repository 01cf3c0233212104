#include "engine/ipc/attachments.h"

#include <fcntl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#include <algorithm>
#include <utility>

#include "base/format.h"
#include "engine/memory/vma_kind.h"

namespace dormouse::engine {
namespace {

using parasite::exactly;
using parasite::Program;

std::string place(const pb::vma_entry& vma) { return format("{:x}-{:x}", vma.start(), vma.end()); }

int attach_flags(const pb::vma_entry& vma) {
  return (vma.fdflags() == O_RDWR || !vma.has_fdflags() ? 0 : SHM_RDONLY) | (vma.prot() & PROT_EXEC ? SHM_EXEC : 0);
}
// What shmat() gives.
std::uint32_t first_protection(int flags) {
  return PROT_READ | (flags & SHM_RDONLY ? 0 : PROT_WRITE) | (flags & SHM_EXEC ? PROT_EXEC : 0);
}

// What is left of one shmat(). shmdt() takes away only what has the same open file, so that it must be attached
// by one call again.
struct Attachment {
  const ImageSegment* segment;
  std::uint64_t id, base;
  int flags;
  std::vector<const pb::vma_entry*> pieces;  // ascending

  std::uint64_t bytes() const { return segment->mapped_bytes(); }
  bool is_whole() const {
    std::uint64_t at = base;
    for (const pb::vma_entry* piece : pieces)
      if (piece->start() != std::exchange(at, piece->end())) return false;
    return at == base + bytes();
  }
};

std::vector<Attachment> attachments_of(const Image& image, const pb::mm_entry& mm) {
  std::vector<Attachment> all;
  for (const pb::vma_entry& vma : mm.vmas()) {
    if (!is_segment(vma)) continue;
    const std::uint64_t base = vma.start() - vma.pgoff();
    const auto same = std::ranges::find_if(all, [&](const Attachment& one) {
      return one.id == vma.shmid() && one.base == base && one.flags == attach_flags(vma);
    });
    if (same != all.end()) same->pieces.push_back(&vma);
    else all.push_back({&image.segments.at(vma.shmid()), vma.shmid(), base, attach_flags(vma), {&vma}});
  }
  return all;
}

// shmat() maps all of a segment; what is wanted of it is moved to its place.
void append_pieces(Program& program, const Attachment& attachment, std::uint64_t room) {
  for (const pb::vma_entry* piece : attachment.pieces) {
    const std::uint64_t bytes = piece->end() - piece->start();
    program.call(format("move an attachment to {}", place(*piece)), SYS_mremap,
                 {room + piece->pgoff(), bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, piece->start()},
                 exactly(static_cast<std::int64_t>(piece->start())));
  }
  program.call("drop the rest of the attachment", SYS_munmap, {room, attachment.bytes()});
}

}  // namespace

void check_attachments(DumpContext& context, const Task& task, std::span<const pb::vma_entry> vmas,
                       bool own_namespace, std::span<const SavedSegment> segments) {
  for (const pb::vma_entry& vma : vmas) {
    if (!is_segment(vma)) continue;
    const auto refuse = [&](std::string reason, std::string remedy) {
      context.blockers.add(Error::unsupported(std::move(reason))
                               .object(format("attachment {} of System V shared memory {}", place(vma), vma.shmid()))
                               .owner(task.name()).remedy(std::move(remedy)));
    };
    const bool saved = std::ranges::any_of(segments, [&](const SavedSegment& segment) {
      return segment.entry.desc().id() == vma.shmid();
    });
    if (!own_namespace)
      refuse("the segment belongs to the node's ipc namespace, not to the tree",
             "run the tree in an ipc namespace of its own, or detach it before the checkpoint");
    else if (!saved)
      refuse("the segment is not one of the ipc namespace", "detach it before the checkpoint");
  }
}

std::uint64_t attaching_bytes(const Image& image) {
  std::uint64_t most = 0;
  for (const ImageTask& task : image.tasks) {
    if (!task.mm) continue;
    for (const Attachment& attachment : attachments_of(image, *task.mm))
      if (!attachment.is_whole()) most = std::max(most, attachment.bytes());
  }
  return most;
}

void append_attachments(Program& program, const Image& image, const pb::mm_entry& mm, std::uint64_t room) {
  for (const Attachment& attachment : attachments_of(image, mm)) {
    const std::uint64_t at = attachment.is_whole() ? attachment.base : room;
    program.call(format("attach System V shared memory {}", attachment.id), SYS_shmat,
                 {attachment.id, at, attachment.flags}, exactly(static_cast<std::int64_t>(at)));
    if (at == room) append_pieces(program, attachment, room);
    for (const pb::vma_entry* piece : attachment.pieces) {
      const std::uint64_t bytes = piece->end() - piece->start();
      if (piece->prot() != first_protection(attachment.flags))
        program.call(format("protect {}", place(*piece)), SYS_mprotect, {piece->start(), bytes, piece->prot()});
      if (piece->flags() & MAP_LOCKED) program.call(format("lock {}", place(*piece)), SYS_mlock, {piece->start(), bytes});
    }
  }
}

void append_removals(Program& program, const Image& image) {
  for (const auto& [id, segment] : image.segments)
    if (segment.entry.desc().mode() & kSegmentRemoved)
      program.call(format("remove System V shared memory {}", id), SYS_shmctl, {id, IPC_RMID, 0});
}

}  // namespace dormouse::engine
