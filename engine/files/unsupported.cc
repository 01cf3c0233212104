#include "engine/files/unsupported.h"

#include <linux/magic.h>
#include <sys/sysmacros.h>

#include <string_view>

#include "base/format.h"
#include "engine/files/open_file.h"

namespace dormouse::engine {
namespace {

struct Explanation {
  std::string_view prefix;  // of the link
  std::string_view reason;
  std::string_view remedy = "close it before the checkpoint";
};

constexpr Explanation kByLink[] = {
    {"socket:", "is a socket, which is not supported yet"},
    {"anon_inode:[io_uring]", "is an io_uring instance, whose requests in flight cannot be saved"},
    {"anon_inode:[perf_event]", "is a performance counter, whose state the kernel does not tell"},
    {"anon_inode:[userfaultfd]", "is a userfaultfd, whose pending faults cannot be saved"},
    {"anon_inode:bpf-", "is a BPF object, which lives in the kernel and cannot be saved"},
    {"anon_inode:seccomp notify", "is a seccomp listener, whose pending notifications cannot be saved"},
    {"anon_inode:[fscontext]", "is a file system being set up, which cannot be saved"},
    {"anon_inode:", "is a kernel object of a kind that cannot be saved"},
    {"/dmabuf", "is memory of a device, which cannot be saved"},
};

std::string_view kind_word(mode_t mode) {
  if (S_ISCHR(mode)) return "character";
  return "block";
}

}  // namespace

Error unsupported_file(const OpenFile& file) {
  if (S_ISCHR(file.stat.st_mode) || S_ISBLK(file.stat.st_mode))
    return file.blocked(format("is {} device {}:{}, whose state only its driver knows",
                               kind_word(file.stat.st_mode), major(file.stat.st_rdev),
                               minor(file.stat.st_rdev)),
                        "close it before the checkpoint");
  for (const Explanation& known : kByLink)
    if (file.link.starts_with(known.prefix))
      return file.blocked(std::string(known.reason), std::string(known.remedy));
  if (file.fs_type == SECRETMEM_MAGIC)
    return file.blocked("is secret memory, out of everybody else's reach by design", "close it before the checkpoint");
  if (file.fs_type == NSFS_MAGIC)
    return file.blocked("is a namespace, which is not supported yet", "close it before the checkpoint");
  return file.blocked(format("is a kind of file that cannot be saved (mode 0{:o})", file.stat.st_mode),
                      "close it before the checkpoint");
}

}  // namespace dormouse::engine
