#include "images/catalogue.h"

#include "base/format.h"
#include "base/text.h"
#include "images/own_types.h"
#include "images/schema/attributes.pb.h"
#include "images/schema/bpf.pb.h"
#include "images/schema/cgroups.pb.h"
#include "images/schema/cpu.pb.h"
#include "images/schema/credentials.pb.h"
#include "images/schema/event_files.pb.h"
#include "images/schema/files.pb.h"
#include "images/schema/inventory.pb.h"
#include "images/schema/ipc.pb.h"
#include "images/schema/kinship.pb.h"
#include "images/schema/memory.pb.h"
#include "images/schema/mounts.pb.h"
#include "images/schema/namespaces.pb.h"
#include "images/schema/network.pb.h"
#include "images/schema/pipes.pb.h"
#include "images/schema/regular_files.pb.h"
#include "images/schema/sockets.pb.h"
#include "images/schema/stats.pb.h"
#include "images/schema/task.pb.h"
#include "images/schema/terminals.pb.h"

namespace dormouse::images {

namespace {

using google::protobuf::MessageLite;

template <class Record>
std::unique_ptr<MessageLite> make() {
  return std::make_unique<Record>();
}

Result<> visit_payload(Reader& reader, RecordVisitor& visitor, std::uint64_t bytes) {
  if (bytes == 0) return {};
  if (bytes > reader.remaining())
    return fail(reader.corrupt(format("{} bytes of content, but only {} are left in the file", bytes,
                                      reader.remaining())));
  return visitor.payload(reader, bytes);
}

// Beyond 2^63 the sum would wrap; no file is that long.
std::uint64_t padded(std::uint64_t bytes, std::uint64_t to) {
  return bytes > UINT64_MAX - to ? bytes : (bytes + to - 1) / to * to;
}

// A record behind which lies as much content as `size` says.
template <class Record, auto size>
Result<> content(const MessageLite& record, Reader& reader, RecordVisitor& visitor) {
  return visit_payload(reader, visitor, size(static_cast<const Record&>(record)));
}

constexpr auto kPipeBytes = [](const pb::pipe_data_entry& r) -> std::uint64_t { return r.bytes(); };
constexpr auto kPacketBytes = [](const pb::sk_packet_entry& r) -> std::uint64_t { return r.length(); };
constexpr auto kStreamBytes = [](const pb::tcp_stream_entry& r) {
  return std::uint64_t{r.inq_len()} + r.outq_len();
};
constexpr auto kMapBytes = [](const pb::bpfmap_data_entry& r) {
  return std::uint64_t{r.keys_bytes()} + r.values_bytes();
};
constexpr auto kSemaphoreBytes = [](const pb::ipc_sem_entry& r) {
  return padded(std::uint64_t{r.nsems()} * 2, 8);
};
constexpr auto kSegmentBytes = [](const pb::ipc_shm_entry& r) -> std::uint64_t {
  return r.in_pagemaps() ? 0 : padded(r.size(), 4);
};

// The ghost's content: all that is left, or runs of data with a record of their own each.
Result<> ghost_content(const MessageLite& record, Reader& reader, RecordVisitor& visitor) {
  if (!static_cast<const pb::ghost_file_entry&>(record).chunks())
    return visit_payload(reader, visitor, reader.remaining());
  pb::ghost_chunk_entry chunk;
  while (TRY(reader.next(chunk))) {
    TRY(visitor.record(chunk));
    TRY(visit_payload(reader, visitor, chunk.len()));
  }
  return {};
}

Result<> queued_messages(const MessageLite& record, Reader& reader, RecordVisitor& visitor) {
  const std::uint32_t count = static_cast<const pb::ipc_msg_entry&>(record).qnum();
  pb::ipc_msg message;
  for (std::uint32_t i = 0; i < count; ++i) {
    if (!TRY(reader.next(message)))
      return fail(reader.corrupt(format("the queue has {} messages, but only {} are in the file", count, i)));
    TRY(visitor.record(message));
    TRY(visit_payload(reader, visitor, padded(message.msize(), 8)));
  }
  return {};
}

template <class Record>
constexpr ImageKind one(const ImageType& type, ImageKind::VisitRest rest = nullptr) {
  return {&type, make<Record>, nullptr, rest};
}
template <class Record>
constexpr ImageKind many(const ImageType& type, ImageKind::VisitRest rest = nullptr) {
  return {&type, make<Record>, make<Record>, rest};
}
constexpr ImageKind raw(const ImageType& type) { return {&type, nullptr, nullptr, nullptr}; }

constexpr ImageKind kKinds[] = {
    one<pb::inventory_entry>(kInventory),
    many<pb::pstree_entry>(kPstree),
    many<pb::exit_signal_entry>(kExitSignals),
    one<pb::cgroup_entry>(kCgroup),
    one<pb::seccomp_entry>(kSeccomp),
    one<pb::apparmor_entry>(kApparmor),
    one<pb::cpuinfo_entry>(kCpuinfo),
    one<pb::core_entry>(kCore),
    one<pb::task_kobj_ids_entry>(kIds),
    one<pb::mm_entry>(kMm),
    one<pb::fs_entry>(kFs),
    {&kPagemap, make<pb::pagemap_head>, make<pb::pagemap_entry>, nullptr},
    {&kShmemPagemap, make<pb::pagemap_head>, make<pb::pagemap_entry>, nullptr},
    raw(kPages),
    many<pb::file_entry>(kFiles),
    many<pb::fdinfo_entry>(kFdinfo),
    many<pb::pipe_data_entry>(kPipesData, content<pb::pipe_data_entry, kPipeBytes>),
    many<pb::pipe_data_entry>(kFifoData, content<pb::pipe_data_entry, kPipeBytes>),
    one<pb::ghost_file_entry>(kGhostFile, ghost_content),
    many<pb::remap_file_path_entry>(kRemapFilePath),
    many<pb::memfd_inode_entry>(kMemfdInode),
    many<pb::file_lock_entry>(kFileLocks),
    many<pb::tty_info_entry>(kTtyInfo),
    many<pb::tty_data_entry>(kTtyData),
    many<pb::sk_packet_entry>(kSocketQueues, content<pb::sk_packet_entry, kPacketBytes>),
    one<pb::tcp_stream_entry>(kTcpStream, content<pb::tcp_stream_entry, kStreamBytes>),
    many<pb::bpfmap_data_entry>(kBpfmapData, content<pb::bpfmap_data_entry, kMapBytes>),
    many<pb::mnt_entry>(kMountpoints),
    one<pb::utsns_entry>(kUtsns),
    one<pb::ipc_var_entry>(kIpcnsVar),
    many<pb::ipc_shm_entry>(kIpcnsShm, content<pb::ipc_shm_entry, kSegmentBytes>),
    many<pb::ipc_msg_entry>(kIpcnsMsg, queued_messages),
    many<pb::ipc_sem_entry>(kIpcnsSem, content<pb::ipc_sem_entry, kSemaphoreBytes>),
    one<pb::userns_entry>(kUserns),
    one<pb::timens_entry>(kTimens),
    one<pb::pidns_entry>(kPidns),
    one<pb::netns_entry>(kNetns),
    many<pb::net_device_entry>(kNetdev),
    raw(kIfaddr),
    raw(kRoute),
    raw(kRoute6),
    raw(kRule),
    raw(kIptables),
    raw(kIp6tables),
    raw(kNftables),
    raw(kNetnsConntrack),
    raw(kNetnsExpect),
    raw(kTmpfsDev),
    raw(kTmpfs),
    many<pb::autofs_entry>(kAutofs),
    many<pb::binfmt_misc_entry>(kBinfmtMisc),
    many<pb::thread_attributes_entry>(kDormouseTask),
    one<pb::memory_attributes_entry>(kDormouseMemory),
    one<pb::stats_entry>(kStatsDump),
    one<pb::stats_entry>(kStatsRestore),
    many<pb::irmap_cache_entry>(kIrmapCache),
};

// Whether `name` is a file of this kind, and which.
std::optional<FoundKind> match(const ImageKind& kind, std::string_view name) {
  const std::string_view pattern = kind.type->name;
  const std::size_t hole = pattern.find('{');
  if (hole == std::string_view::npos) {
    if (pattern == name) return FoundKind{&kind, std::nullopt};
    return std::nullopt;
  }
  const std::string_view tail = pattern.substr(pattern.find('}') + 1);
  if (name.size() <= hole + tail.size() || !name.starts_with(pattern.substr(0, hole))) return std::nullopt;
  const auto number = parse_number<std::uint64_t>(name.substr(hole, name.size() - hole - tail.size()),
                                                  pattern[hole + 1] == 'x' ? 16 : 10);
  // Written back, so that 07 or 1A is not taken for 7 or 1a.
  if (!number || file_name(*kind.type, number) != name) return std::nullopt;
  return FoundKind{&kind, number};
}

class Nothing final : public RecordVisitor {
 public:
  Result<> record(const MessageLite&) override { return {}; }
  Result<> payload(Reader& reader, std::uint64_t bytes) override { return reader.skip_bytes(bytes); }
};

}  // namespace

std::span<const ImageKind> all_kinds() { return kKinds; }

std::optional<FoundKind> find_kind(std::string_view file_name) {
  for (const ImageKind& kind : kKinds)
    if (const auto found = match(kind, file_name)) return found;
  return std::nullopt;
}

Result<> visit_records(const ImageKind& kind, Reader& reader, RecordVisitor& visitor) {
  if (!kind.first) return visit_payload(reader, visitor, reader.remaining());
  auto record = kind.first();
  for (bool is_first = true; TRY(reader.next(*record));) {
    TRY(visitor.record(*record));
    if (kind.rest) TRY(kind.rest(*record, reader, visitor));
    if (!is_first) continue;
    is_first = false;
    if (kind.following && kind.following != kind.first) record = kind.following();
    if (!kind.following && reader.remaining() != 0)
      return fail(reader.corrupt(format("{} bytes behind the only record", reader.remaining())));
  }
  return {};
}

Result<> check_records(const InputDirectory& images) {
  Nothing nothing;
  for (const auto all = TRY(images.list()); const auto& [name, size] : all) {
    const auto found = find_kind(name);
    if (!found) continue;
    Reader reader = TRY(images.reader(*found->kind->type, found->number));
    TRY(visit_records(*found->kind, reader, nothing));
  }
  return {};
}

}  // namespace dormouse::images
