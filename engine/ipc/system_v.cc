#include "engine/ipc/system_v.h"

#include <fcntl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/vfs.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/defer.h"
#include "base/format.h"
#include "kernel/proc/directory.h"

namespace dormouse::engine {
namespace {

constexpr std::int64_t kHugetlbMagic = 0x958458f6;

void describe(const ::ipc_perm& permissions, int id, pb::ipc_desc_entry& desc) {
  desc.set_key(static_cast<std::uint32_t>(permissions.__key));
  desc.set_uid(permissions.uid);
  desc.set_gid(permissions.gid);
  desc.set_cuid(permissions.cuid);
  desc.set_cgid(permissions.cgid);
  desc.set_mode(permissions.mode);
  desc.set_id(static_cast<std::uint32_t>(id));
}

// Calls `look(id)` for each object up to the highest index in use. `stat(index)` gives an object's id; EINVAL
// from it says that there is none.
template <class Stat, class Look>
Result<> for_each_object(int highest, Stat&& stat, Look&& look) {
  for (int index = 0; index <= highest; ++index) {
    const int id = stat(index);
    if (id == -1 && errno == EINVAL) continue;
    if (id == -1) return fail(Error::kernel("asking about a System V object", errno));
    TRY(look(id));
  }
  return {};
}

// The file is on the kernel's own tmpfs or hugetlbfs; the attachment's own descriptor is out of reach.
Result<Fd> file_behind(const void* attached) {
  const auto start = reinterpret_cast<std::uint64_t>(attached);
  for (const auto all = TRY(TRY(proc::ProcDir::self()).maps()); const proc::Vma& vma : all)
    if (vma.start == start)
      return sys::openat(AT_FDCWD, format("/proc/self/map_files/{:x}-{:x}", vma.start, vma.end), O_RDONLY);
  return fail(Error::kernel("finding the attachment", ENOENT));
}

Result<SavedSegment> read_segment(int id, const ::shmid_ds& state) {
  SavedSegment segment;
  describe(state.shm_perm, id, *segment.entry.mutable_desc());
  segment.entry.set_size(state.shm_segsz);
  segment.entry.set_in_pagemaps(true);
  void* const attached = ::shmat(id, nullptr, SHM_RDONLY);
  if (attached == reinterpret_cast<void*>(-1)) return fail(Error::kernel("shmat", errno));
  const Defer detach([&] { ::shmdt(attached); });
  segment.file = TRY(file_behind(attached));
  const auto system = TRY(sys::fstatfs(segment.file.get()));
  if (system.f_type == kHugetlbMagic) {
    const auto shift = std::countr_zero(static_cast<std::uint64_t>(system.f_bsize));
    segment.entry.set_hugetlb_flag(static_cast<std::uint32_t>(SHM_HUGETLB | shift << 26));
  }
  return segment;
}

Result<> read_segments(bool removal_forced, std::vector<SavedSegment>& to) {
  ::shm_info info{};
  const int highest = ::shmctl(0, SHM_INFO, reinterpret_cast<::shmid_ds*>(&info));
  if (highest == -1) return fail(Error::kernel("shmctl", errno));
  ::shmid_ds state{};
  const auto stat = [&](int index) { return ::shmctl(index, SHM_STAT, &state); };
  return for_each_object(highest, stat, [&](int id) -> Result<> {
    const std::string name = format("System V shared memory {}", id);
    if (removal_forced && state.shm_nattch == 0)
      return fail(Error::unsupported("nobody is attached to it, and looking at it would destroy it "
                                     "(kernel.shm_rmid_forced is 1)")
                      .object(name).remedy("attach it, or set kernel.shm_rmid_forced to 0"));
    to.push_back(TRY_OR(read_segment(id, state), std::move(e).object(name)));
    return {};
  });
}

Result<> read_semaphores(std::vector<SavedSemaphores>& to) {
  ::seminfo info{};
  const int highest = ::semctl(0, 0, SEM_INFO, &info);
  if (highest == -1) return fail(Error::kernel("semctl", errno));
  ::semid_ds state{};
  const auto stat = [&](int index) { return ::semctl(index, 0, SEM_STAT, &state); };
  return for_each_object(highest, stat, [&](int id) -> Result<> {
    SavedSemaphores set;
    describe(state.sem_perm, id, *set.entry.mutable_desc());
    set.entry.set_nsems(static_cast<std::uint32_t>(state.sem_nsems));
    set.values.resize(state.sem_nsems);
    if (::semctl(id, 0, GETALL, set.values.data()) == -1)
      return fail(Error::kernel("semctl", errno).object(format("System V semaphores {}", id)));
    to.push_back(std::move(set));
    return {};
  });
}

// MSG_COPY (Linux 3.8): the message at that place in the queue, which stays there.
Result<SavedQueue::Message> copy_message(int queue, std::uint64_t place, std::vector<std::byte>& buffer) {
  for (;;) {
    const ssize_t bytes = ::msgrcv(queue, buffer.data(), buffer.size() - sizeof(long), static_cast<long>(place),
                                   IPC_NOWAIT | MSG_COPY);
    if (bytes == -1 && errno == E2BIG && buffer.size() < (std::size_t{1} << 31)) {
      buffer.resize(buffer.size() * 2);
      continue;
    }
    if (bytes == -1) return fail(Error::kernel("msgrcv", errno));
    SavedQueue::Message message;
    std::memcpy(&message.type, buffer.data(), sizeof message.type);
    const auto text = std::span(buffer).subspan(sizeof(long), static_cast<std::size_t>(bytes));
    message.text.assign(text.begin(), text.end());
    return message;
  }
}

Result<> read_queues(std::vector<SavedQueue>& to) {
  ::msginfo info{};
  const int highest = ::msgctl(0, MSG_INFO, reinterpret_cast<::msqid_ds*>(&info));
  if (highest == -1) return fail(Error::kernel("msgctl", errno));
  std::vector<std::byte> buffer(64 << 10);
  ::msqid_ds state{};
  const auto stat = [&](int index) { return ::msgctl(index, MSG_STAT, &state); };
  return for_each_object(highest, stat, [&](int id) -> Result<> {
    SavedQueue queue;
    describe(state.msg_perm, id, *queue.entry.mutable_desc());
    queue.entry.set_qbytes(static_cast<std::uint32_t>(state.msg_qbytes));
    queue.entry.set_qnum(static_cast<std::uint32_t>(state.msg_qnum));
    for (std::uint64_t place = 0; place < state.msg_qnum; ++place)
      queue.messages.push_back(
          TRY_OR(copy_message(id, place, buffer), std::move(e).object(format("message {} of System V queue {}", place, id))));
    to.push_back(std::move(queue));
    return {};
  });
}

Result<std::uint32_t> inside(std::uint32_t outside, std::span<const proc::IdRange> map) {
  for (const proc::IdRange& range : map)
    if (outside >= range.outside && outside - range.outside < range.count) return range.inside + (outside - range.outside);
  return fail(Error::unsupported(format("it belongs to id {}, which the container's user namespace does not know", outside))
                  .remedy("give it an owner of the container"));
}

}  // namespace

std::string segment_name(const pb::ipc_desc_entry& desc) { return format("System V shared memory {}", desc.id()); }

Result<SystemVObjects> read_system_v(bool removal_forced) {
  SystemVObjects objects;
  TRY(read_segments(removal_forced, objects.segments));
  TRY(read_semaphores(objects.semaphores));
  TRY(read_queues(objects.queues));
  return objects;
}

Result<> translate_owners(SystemVObjects& objects, std::span<const proc::IdRange> users,
                          std::span<const proc::IdRange> groups) {
  const auto translate = [&](pb::ipc_desc_entry& desc) -> Result<> {
    desc.set_uid(TRY(inside(desc.uid(), users)));
    desc.set_gid(TRY(inside(desc.gid(), groups)));
    desc.set_cuid(TRY(inside(desc.cuid(), users)));
    desc.set_cgid(TRY(inside(desc.cgid(), groups)));
    return {};
  };
  const auto all = [&](auto& list, const char* what) -> Result<> {
    for (auto& one : list) {
      pb::ipc_desc_entry& desc = *one.entry.mutable_desc();
      TRY_OR(translate(desc), std::move(e).object(format("System V {} {}", what, desc.id())));
    }
    return {};
  };
  TRY(all(objects.segments, "shared memory"));
  TRY(all(objects.semaphores, "semaphores"));
  return all(objects.queues, "queue");
}

namespace {

// Content in an image is padded with zeros to a multiple of 8 bytes.
Result<> append_padded(images::Writer& writer, std::span<const std::byte> bytes) {
  constexpr std::byte kZeros[7]{};
  TRY(writer.append_bytes(bytes));
  return writer.append_bytes(std::span(kZeros).first((8 - bytes.size() % 8) % 8));
}

}  // namespace

Result<> write_system_v(images::OutputDirectory& out, std::uint32_t number, const SystemVObjects& objects) {
  auto segments = TRY(out.create(images::kIpcnsShm, number));
  for (const SavedSegment& segment : objects.segments) TRY(segments.append(segment.entry));
  TRY(segments.finish());
  auto semaphores = TRY(out.create(images::kIpcnsSem, number));
  for (const SavedSemaphores& set : objects.semaphores) {
    TRY(semaphores.append(set.entry));
    TRY(append_padded(semaphores, std::as_bytes(std::span(set.values))));
  }
  TRY(semaphores.finish());
  auto queues = TRY(out.create(images::kIpcnsMsg, number));
  for (const SavedQueue& queue : objects.queues) {
    TRY(queues.append(queue.entry));
    for (const SavedQueue::Message& message : queue.messages) {
      pb::ipc_msg record;
      record.set_mtype(static_cast<std::uint64_t>(message.type));
      record.set_msize(static_cast<std::uint32_t>(message.text.size()));
      TRY(queues.append(record));
      TRY(append_padded(queues, message.text));
    }
  }
  return queues.finish();
}

}  // namespace dormouse::engine
