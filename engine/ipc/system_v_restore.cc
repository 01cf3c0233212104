#include "engine/ipc/system_v_restore.h"

#include <fcntl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/defer.h"
#include "base/format.h"
#include "kernel/process.h"

namespace dormouse::engine {
namespace {

constexpr int kAccess = 0777;

std::uint64_t padding_to_8(std::uint64_t bytes) { return (8 - bytes % 8) % 8; }

Result<> read_semaphores(const images::InputDirectory& in, std::uint32_t number, std::vector<SavedSemaphores>& to) {
  if (!in.exists(images::kIpcnsSem, number)) return {};
  auto reader = TRY(in.reader(images::kIpcnsSem, number));
  SavedSemaphores set;
  while (TRY(reader.next(set.entry))) {
    const std::uint64_t bytes = std::uint64_t{set.entry.nsems()} * sizeof(std::uint16_t);
    if (bytes > reader.remaining())
      return fail(reader.corrupt(format("a set of {} semaphores is longer than the file", set.entry.nsems())));
    const auto values = TRY(reader.read_bytes(bytes + padding_to_8(bytes)));
    set.values.resize(set.entry.nsems());
    std::memcpy(set.values.data(), values.data(), bytes);
    to.push_back(set);
  }
  return {};
}

Result<> read_queues(const images::InputDirectory& in, std::uint32_t number, std::vector<SavedQueue>& to) {
  if (!in.exists(images::kIpcnsMsg, number)) return {};
  auto reader = TRY(in.reader(images::kIpcnsMsg, number));
  pb::ipc_msg_entry entry;
  while (TRY(reader.next(entry))) {
    SavedQueue& queue = to.emplace_back();
    queue.entry = entry;
    pb::ipc_msg record;
    for (std::uint32_t i = 0; i < entry.qnum(); ++i) {
      if (!TRY(reader.next(record))) return fail(reader.corrupt(format("message {} of {} is missing", i, entry.qnum())));
      if (record.msize() > reader.remaining() || static_cast<std::int64_t>(record.mtype()) < 1)
        return fail(reader.corrupt(format("a message of type {} and {} bytes", record.mtype(), record.msize())));
      auto text = TRY(reader.read_bytes(record.msize() + padding_to_8(record.msize())));
      text.resize(record.msize());
      queue.messages.push_back({static_cast<std::int64_t>(record.mtype()), std::move(text)});
    }
  }
  return {};
}

// Objects belong to the effective ids of their maker, for ever. With those, the right to do the rest is gone
// for the moment.
template <class Make>
Result<int> made_by(const pb::ipc_desc_entry& desc, Make&& make) {
  const bool other = desc.cuid() != ::geteuid() || desc.cgid() != ::getegid();
  const uid_t user = ::geteuid();
  const gid_t group = ::getegid();
  const Defer back([&] {
    if (!other) return;
    (void)::setresuid(static_cast<uid_t>(-1), user, static_cast<uid_t>(-1));
    (void)::setresgid(static_cast<gid_t>(-1), group, static_cast<gid_t>(-1));
    // A change of ids makes a process undumpable, and its own /proc files another's.
    (void)sys::prctl(PR_SET_DUMPABLE, 1);
  });
  if (other && (::setresgid(static_cast<gid_t>(-1), desc.cgid(), static_cast<gid_t>(-1)) == -1 ||
                ::setresuid(static_cast<uid_t>(-1), desc.cuid(), static_cast<uid_t>(-1)) == -1))
    return fail(Error::kernel(format("becoming its creator {}:{}", desc.cuid(), desc.cgid()), errno));
  const int id = make();
  if (id == -1) return fail(Error::kernel("making it", errno));
  return id;
}

class Maker {
 public:
  Maker(const RestoreContext& context, const SystemVPlan& plan) : context_(context), plan_(plan) {}

  [[nodiscard]] Result<> run() {
    for (const auto& [id, segment] : *plan_.segments)
      TRY_OR(make(segment), std::move(e).object(segment_name(segment.entry.desc())));
    for (const SavedSemaphores& set : plan_.semaphores)
      TRY_OR(make(set), std::move(e).object(format("System V semaphores {}", set.entry.desc().id())));
    for (const SavedQueue& queue : plan_.queues)
      TRY_OR(make(queue), std::move(e).object(format("System V queue {}", queue.entry.desc().id())));
    return {};
  }

 private:
  // `kind`: shm, sem, msg. `get`: makes it with these flags.
  template <class Get>
  [[nodiscard]] Result<> make_object(const char* kind, const pb::ipc_desc_entry& desc, Get&& get) const {
    TRY_OR(sys::write_file(AT_FDCWD, format("/proc/sys/kernel/{}_next_id", kind), format("{}", desc.id())),
           std::move(e).remedy("choosing ids needs CAP_CHECKPOINT_RESTORE and Linux 5.19, or the node's root"));
    const int flags = static_cast<int>(desc.mode() & kAccess) | IPC_CREAT | IPC_EXCL;
    const int id = TRY(made_by(desc, [&] { return get(static_cast<key_t>(desc.key()), flags); }));
    if (static_cast<std::uint32_t>(id) != desc.id())
      return fail(Error::conflict(format("it got the id {}", id), EEXIST));
    return {};
  }

  [[nodiscard]] Result<> make(const ImageSegment& segment) const {
    const pb::ipc_shm_entry& entry = segment.entry;
    TRY(make_object("shm", entry.desc(), [&](key_t key, int flags) {
      return ::shmget(key, entry.size(), flags | static_cast<int>(entry.hugetlb_flag()));
    }));
    const int id = static_cast<int>(entry.desc().id());
    TRY(fill(segment));
    ::shmid_ds state{};
    if (::shmctl(id, IPC_STAT, &state) == -1) return fail(Error::kernel("shmctl", errno));
    set_owner(state.shm_perm, entry.desc());
    if (::shmctl(id, IPC_SET, &state) == -1) return fail(Error::kernel("setting its owner", errno));
    if ((entry.desc().mode() & kSegmentLocked) && ::shmctl(id, SHM_LOCK, nullptr) == -1)
      return fail(Error::kernel("locking it", errno));
    return {};
  }

  [[nodiscard]] Result<> fill(const ImageSegment& segment) const {
    if (segment.pages.empty()) return {};
    void* const attached = ::shmat(static_cast<int>(segment.entry.desc().id()), nullptr, 0);
    if (attached == reinterpret_cast<void*>(-1)) return fail(Error::kernel("shmat", errno));
    const Defer detach([&] { ::shmdt(attached); });
    std::vector<std::byte> buffer;
    for (const Chunk& chunk : cut_in_place(segment.pages)) {
      buffer.resize(chunk.bytes);
      TRY(read_chunk(chunk, buffer));
      std::size_t done = 0;
      for (const Piece& piece : chunk.pieces) {
        std::memcpy(static_cast<std::byte*>(attached) + piece.address, buffer.data() + done, piece.bytes);
        done += piece.bytes;
      }
    }
    return {};
  }

  [[nodiscard]] Result<> read_chunk(const Chunk& chunk, std::span<std::byte> to) const {
    const std::string name = context_.page_file_name(chunk.file);
    TRY_OR(sys::pread_exactly(plan_.page_files.at(chunk.file).get(), to, chunk.offset), std::move(e).object(name));
    const auto sums = context_.page_checksums(chunk.file);
    if (chunk.checksum_index() < sums.size() && chunk.is_whole(context_.image.page_files[chunk.file].bytes) &&
        XXH64(to.data(), to.size(), 0) != sums[chunk.checksum_index()])
      return fail(Error::corrupt(format("checksum of the pages at offset {} is wrong", chunk.offset))
                      .object(name).remedy("the file was damaged after the checkpoint"));
    return {};
  }

  [[nodiscard]] Result<> make(const SavedSemaphores& set) const {
    const auto count = static_cast<int>(set.entry.nsems());
    TRY(make_object("sem", set.entry.desc(), [&](key_t key, int flags) { return ::semget(key, count, flags); }));
    const int id = static_cast<int>(set.entry.desc().id());
    if (::semctl(id, 0, SETALL, set.values.data()) == -1) return fail(Error::kernel("setting its values", errno));
    ::semid_ds state{};
    if (::semctl(id, 0, IPC_STAT, &state) == -1) return fail(Error::kernel("semctl", errno));
    set_owner(state.sem_perm, set.entry.desc());
    if (::semctl(id, 0, IPC_SET, &state) == -1) return fail(Error::kernel("setting its owner", errno));
    return {};
  }

  [[nodiscard]] Result<> make(const SavedQueue& queue) const {
    TRY(make_object("msg", queue.entry.desc(), [](key_t key, int flags) { return ::msgget(key, flags); }));
    const int id = static_cast<int>(queue.entry.desc().id());
    std::vector<std::byte> buffer;
    for (const SavedQueue::Message& message : queue.messages) {
      buffer.resize(sizeof(long) + message.text.size());
      std::memcpy(buffer.data(), &message.type, sizeof message.type);
      std::ranges::copy(message.text, buffer.begin() + sizeof(long));
      if (::msgsnd(id, buffer.data(), message.text.size(), IPC_NOWAIT) == -1)
        return fail(Error::kernel("sending a saved message", errno));
    }
    // Its limit comes last: it may be lower than what is in it.
    ::msqid_ds state{};
    if (::msgctl(id, IPC_STAT, &state) == -1) return fail(Error::kernel("msgctl", errno));
    set_owner(state.msg_perm, queue.entry.desc());
    state.msg_qbytes = queue.entry.qbytes();
    if (::msgctl(id, IPC_SET, &state) == -1) return fail(Error::kernel("setting its owner and limit", errno));
    return {};
  }

  static void set_owner(::ipc_perm& permissions, const pb::ipc_desc_entry& desc) {
    permissions.uid = desc.uid();
    permissions.gid = desc.gid();
    permissions.mode = static_cast<decltype(permissions.mode)>(desc.mode() & kAccess);
  }

  const RestoreContext& context_;
  const SystemVPlan& plan_;
};

}  // namespace

pb::ipc_var_entry SystemVPlan::limits_needed(pb::ipc_var_entry limits) const {
  const auto at_least = [](std::uint64_t value, std::uint64_t wanted) {
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(std::max(value, wanted), INT32_MAX));
  };
  for (const SavedQueue& queue : queues) {
    std::uint64_t bytes = queue.entry.qbytes();
    std::uint64_t held = 0;
    for (const SavedQueue::Message& message : queue.messages) {
      limits.set_msg_ctlmax(at_least(limits.msg_ctlmax(), message.text.size()));
      held += message.text.size();
    }
    // The kernel counts messages against the limit as well as bytes.
    bytes = std::max({bytes, held, std::uint64_t{queue.messages.size()}});
    limits.set_msg_ctlmnb(at_least(limits.msg_ctlmnb(), bytes));
  }
  limits.clear_msg_next_id();
  limits.clear_sem_next_id();
  limits.clear_shm_next_id();
  limits.set_shm_rmid_forced(0);  // until somebody is attached
  return limits;
}

Result<SystemVPlan> plan_system_v(const RestoreContext& context, std::uint32_t number) {
  SystemVPlan plan;
  plan.segments = &context.image.segments;
  for (const auto& [id, segment] : context.image.segments)
    for (const PageRun& run : segment.pages)
      if (!plan.page_files.contains(run.file)) plan.page_files.emplace(run.file, TRY(context.open_page_file(run.file)));
  TRY(read_semaphores(context.in, number, plan.semaphores));
  TRY(read_queues(context.in, number, plan.queues));
  return plan;
}

Result<> make_system_v(const RestoreContext& context, const SystemVPlan& plan) { return Maker(context, plan).run(); }

}  // namespace dormouse::engine
