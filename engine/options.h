// What a caller asks of the engine. Plain values: the shim fills them from a command line, an RPC
// request or an OCI bundle; the engine reads them and never writes them.
//
// Descriptors named here are owned by the caller and stay open for the whole call.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "cgroups/options.h"

namespace dormouse::engine {

using CgroupMode = cgroups::Mode;
using CgroupRoot = cgroups::RootOverride;

// A mount that comes from outside. Dump: `key` is its mount point inside the container, `value` the
// name it gets in the image. Restore: `key` is that name, `value` the source path on this node.
struct ExternalMount {
  std::string key, value;
};

// A descriptor of the caller that replaces a saved resource, e.g. {"pipe:[4711]", 0}.
struct InheritedFd {
  std::string key;
  int fd = -1;
};

// A namespace to enter on restore instead of creating one: {"ipc", "/proc/1/ns/ipc"}.
struct JoinNamespace {
  std::string kind, path, extra;
};

enum class NetworkLock : std::uint8_t { kIptables, kNftables, kSkip };

// --cpu-cap: what of the CPU is compared on restore.
struct CpuChecks {
  bool record = false;  // dump: write cpuinfo.img; restore: compare with it
  bool fpu = true;           // the extended registers and how they are kept
  bool instructions = true;  // what the image's CPU can do, this one can do as well
  bool exact = false;        // neither more nor less
  bool any() const { return fpu || instructions || exact; }
};

// Stages a caller may watch, by the names that RPC clients and action scripts know.
struct Notification {
  std::string stage;   // "pre-dump", "network-lock", "post-restore", …
  pid_t root_pid = 0;  // the root task as the engine sees it, where the stage has one
  int descriptor = -1;  // orphan-pts-master: the terminal's master side
  // query-ext-files: where the watcher puts further externals; null if they cannot be had any more.
  std::vector<std::string>* more_externals = nullptr;
};
// An error aborts the operation (or is only logged, after the point of no return).
using Notify = std::function<Result<>(const Notification&)>;

struct CommonOptions {
  Log* log = nullptr;      // never null when the engine is called
  int images_dir = -1;     // directory descriptor
  int work_dir = -1;       // directory descriptor: stats-dump, stats-restore; defaults to images_dir
  std::string root;        // root of the container's file system as this node sees it
  Notify notify;           // may be empty

  CgroupMode cgroup_mode = CgroupMode::kSoft;
  std::vector<CgroupRoot> cgroup_roots;
  std::string cgroup_yard;     // directory with every hierarchy mounted; empty: find or make mounts
  std::vector<ExternalMount> external_mounts;
  std::vector<std::string> externals;  // "net[4026532]:key", "mnt[/x]:name", "dev[8/1]:name", …
  // Mounts that this node has too, in the same place, need not be named.
  bool auto_external_mounts = false;
  std::uint64_t empty_namespaces = 0;  // CLONE_NEWNET: the contents are left out / come from hooks

  bool shell_job = false;
  bool tcp_established = false;
  bool tcp_close = false;
  bool external_unix_sockets = false;
  bool file_locks = false;
  bool evasive_devices = false;
  // A uprobe has been in tasks, and code that it changed may be in their pages: where they are restored, it must be
  // active if it was when they were saved, or they get SIGTRAP.
  bool allow_uprobes = false;
  bool orphan_pts_master = false;
  bool link_remap = false;
  bool skip_file_rwx_check = false;
  std::uint64_t ghost_limit_bytes = 1 << 20;
  CpuChecks cpu;
  NetworkLock network_lock = NetworkLock::kIptables;
  // Give up pages of images that nobody needs any more. Dump: those of the parent images that the new ones
  // have too. Restore: all that were read.
  bool auto_dedup = false;
  std::vector<std::string> without;  // kernel features to pretend absent (--without=NAME)
};

// How a pre-dump takes the pages; noted in its images. Both are read while the tasks run again.
enum class PreDumpMode : std::uint8_t { kSplice = 1, kRead = 2 };

enum class AfterDump : std::uint8_t { kKill, kResume, kStop };

struct CheckpointOptions : CommonOptions {
  pid_t pid = 0;               // root of the tree, as the engine sees it
  AfterDump after = AfterDump::kKill;
  std::string freeze_cgroup;   // absolute directory, v1 freezer or v2; empty: none
  std::vector<std::string> cgroup_controllers;    // save only these; empty: all
  std::vector<std::string> cgroup_property_specs; // YAML, merged in order (cgroups/properties.h)
  bool cgroup_properties_ignore_default = false;  // begin with an empty list of properties
  std::chrono::milliseconds freeze_timeout{10'000};
  bool external_sharing = false;  // shared mounts with peers outside are acceptable
  bool external_masters = false;  // slave mounts with masters outside are acceptable
  std::vector<std::string> enabled_filesystems;
  std::vector<std::string> skip_mounts;
  // Inode of the engine's end of the socket that a task of the tree asked for this dump with; 0: none did.
  std::uint64_t requester_socket = 0;
  bool sync_images = false;    // fsync before the manifest is written
  bool track_memory = false;   // note from now on which pages are written, for the next dump
  std::string parent_images;   // images of an earlier (pre-)dump to build on, as seen from images_dir
  PreDumpMode pre_dump_mode = PreDumpMode::kSplice;
  // Tasks may be saved that have restricted themselves with Landlock; they wake without these restrictions.
  bool drop_landlock = false;
  std::vector<std::string> irmap_scan_paths;  // directories to search for inodes that only an inotify names
};

struct RestoreOptions : CommonOptions {
  bool as_sibling = false;     // the root task becomes a child of the caller's parent
  bool parent_ends = false;    // the caller, being the root task's parent, ends while that goes on
  bool leave_stopped = false;
  std::vector<InheritedFd> inherited;
  std::vector<JoinNamespace> join_namespaces;
  std::string lsm_profile;
  std::string lsm_mount_context;
  bool weak_sysctls = false;
};

struct CheckpointReport {
  std::chrono::microseconds freezing{}, frozen{}, memory_dump{}, memory_write{};
  std::uint64_t pages_scanned = 0, pages_written = 0;                // private memory
  std::uint64_t pages_in_parent = 0;                                 // not written: they are in the parent images
  std::uint64_t shared_pages_scanned = 0, shared_pages_written = 0;  // shared memory objects
  std::uint32_t tasks = 0, threads = 0;
};

struct RestoreReport {
  pid_t root_pid = 0;  // as the engine sees it
  std::chrono::microseconds forking{}, total{};
  std::uint64_t pages_restored = 0, pages_compared = 0, pages_kept_shared = 0;
};

// A failure may concern many objects; all of them are told, the first one is the cause.
struct Failures {
  std::vector<Error> all;
};

}  // namespace dormouse::engine
