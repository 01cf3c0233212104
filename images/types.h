// The kinds of image file: name pattern and magic numbers, facts of the reference format (4.2).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace dormouse::images {

// What stands at the beginning of a file before its records.
enum class Preamble : std::uint8_t {
  kCommon,     // IMG_COMMON_MAGIC, then the kind's own magic
  kService,    // IMG_SERVICE_MAGIC, then the kind's own magic (stats-dump, stats-restore)
  kOwnOnly,    // just the kind's own magic (inventory)
  kNone,       // raw bytes (pages-N.img, tmpfs archives)
};

inline constexpr std::uint32_t kCommonMagic = 0x54564319;
inline constexpr std::uint32_t kServiceMagic = 0x55105940;

// `name` holds at most one "{}" or "{x}", which stands for the file's number in decimal or in
// hexadecimal: "core-{}.img", "ghost-file-{x}.img".
struct ImageType {
  std::string_view name;
  std::uint32_t magic;
  Preamble preamble = Preamble::kCommon;
};

std::string file_name(const ImageType& type, std::optional<std::uint64_t> number = std::nullopt);

// The whole checkpoint.
inline constexpr ImageType kInventory{"inventory.img", 0x58313116, Preamble::kOwnOnly};
inline constexpr ImageType kPstree{"pstree.img", 0x50273030};
inline constexpr ImageType kCgroup{"cgroup.img", 0x59383330};
inline constexpr ImageType kSeccomp{"seccomp.img", 0x64413049};
inline constexpr ImageType kApparmor{"apparmor.img", 0x59423047};
inline constexpr ImageType kCpuinfo{"cpuinfo.img", 0x61404013};
// Ours, and only there if a task has another one than SIGCHLD.
inline constexpr ImageType kExitSignals{"exit-signals.img", 0x44524d31};
// Numbered by pid (core: by thread id).
inline constexpr ImageType kCore{"core-{}.img", 0x55053847};
inline constexpr ImageType kIds{"ids-{}.img", 0x54432030};
inline constexpr ImageType kMm{"mm-{}.img", 0x57492820};
inline constexpr ImageType kFs{"fs-{}.img", 0x51403912};
inline constexpr ImageType kPagemap{"pagemap-{}.img", 0x56084025};
// Numbered by shared memory object.
inline constexpr ImageType kShmemPagemap{"pagemap-shmem-{}.img", 0x56084025};
// Numbered by pagemap_head.pages_id.
inline constexpr ImageType kPages{"pages-{}.img", 0, Preamble::kNone};
// Open files. fdinfo is numbered by task_kobj_ids_entry.files_id.
inline constexpr ImageType kFiles{"files.img", 0x56303138};
inline constexpr ImageType kFdinfo{"fdinfo-{}.img", 0x56213732};
inline constexpr ImageType kPipesData{"pipes-data.img", 0x56453709};
inline constexpr ImageType kFifoData{"fifo-data.img", 0x59333054};
inline constexpr ImageType kGhostFile{"ghost-file-{x}.img", 0x52583605};
inline constexpr ImageType kRemapFilePath{"remap-fpath.img", 0x59133954};
inline constexpr ImageType kMemfdInode{"memfd.img", 0x48453499};
inline constexpr ImageType kFileLocks{"filelocks.img", 0x54323616};
inline constexpr ImageType kTtyInfo{"tty-info.img", 0x59453036};
inline constexpr ImageType kTtyData{"tty-data.img", 0x59413026};
inline constexpr ImageType kSocketQueues{"sk-queues.img", 0x56264026};
inline constexpr ImageType kTcpStream{"tcp-stream-{x}.img", 0x51465506};
inline constexpr ImageType kBpfmapData{"bpfmap-data.img", 0x64324033};
// Numbered by namespace.
inline constexpr ImageType kMountpoints{"mountpoints-{}.img", 0x55563928};
inline constexpr ImageType kUtsns{"utsns-{}.img", 0x54473203};
inline constexpr ImageType kIpcnsVar{"ipcns-var-{}.img", 0x53115007};
inline constexpr ImageType kIpcnsShm{"ipcns-shm-{}.img", 0x46283044};
inline constexpr ImageType kIpcnsMsg{"ipcns-msg-{}.img", 0x55453737};
inline constexpr ImageType kIpcnsSem{"ipcns-sem-{}.img", 0x59573019};
inline constexpr ImageType kUserns{"userns-{}.img", 0x55474906};
inline constexpr ImageType kTimens{"timens-{}.img", 0x43114433};
inline constexpr ImageType kPidns{"pidns-{}.img", 0x61157326};
inline constexpr ImageType kNetns{"netns-{}.img", 0x55933752};
inline constexpr ImageType kNetdev{"netdev-{}.img", 0x57373951};
// Raw netlink messages or dumps of tools, numbered by network namespace.
inline constexpr ImageType kIfaddr{"ifaddr-{}.img", 0, Preamble::kNone};
inline constexpr ImageType kRoute{"route-{}.img", 0, Preamble::kNone};
inline constexpr ImageType kRoute6{"route6-{}.img", 0, Preamble::kNone};
inline constexpr ImageType kRule{"rule-{}.img", 0, Preamble::kNone};
inline constexpr ImageType kIptables{"iptables-{}.img", 0, Preamble::kNone};
inline constexpr ImageType kIp6tables{"ip6tables-{}.img", 0, Preamble::kNone};
inline constexpr ImageType kNftables{"nftables-{}.img", 0, Preamble::kNone};
inline constexpr ImageType kNetnsConntrack{"netns-ct-{}.img", 0, Preamble::kNone};
inline constexpr ImageType kNetnsExpect{"netns-exp-{}.img", 0, Preamble::kNone};
// Contents of file systems. tmpfs-dev is numbered by device, tmpfs and autofs by mount id.
inline constexpr ImageType kTmpfsDev{"tmpfs-dev-{}.tar.gz.img", 0, Preamble::kNone};
inline constexpr ImageType kTmpfs{"tmpfs-{}.tar.gz.img", 0, Preamble::kNone};
inline constexpr ImageType kAutofs{"autofs-{}.img", 0x49353943};
inline constexpr ImageType kBinfmtMisc{"binfmt-misc.img", 0x67343323};
// Not part of the checkpoint: may lie in another directory and are never in the manifest.
inline constexpr ImageType kStatsDump{"stats-dump", 0x57093306, Preamble::kService};
inline constexpr ImageType kStatsRestore{"stats-restore", 0x57093306, Preamble::kService};
inline constexpr ImageType kIrmapCache{"irmap-cache", 0x57004059, Preamble::kService};

}  // namespace dormouse::images
