#include <elf.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "tests/workloads/workload.h"

namespace {

// The kernel's code and data for user space, as /proc/self/maps names them.
struct Part {
  uintptr_t start, end;
  bool is_code;
};

int find_parts(Part* parts, int room) {
  char line[512];
  int count = 0;
  FILE* maps = fopen("/proc/self/maps", "re");
  CHECK(maps != nullptr);
  while (fgets(line, sizeof line, maps) != nullptr) {
    const bool is_code = strstr(line, "[vdso]") != nullptr;
    if (!is_code && strstr(line, "[vvar") == nullptr) continue;
    CHECK(count < room);
    CHECK_EQ(sscanf(line, "%lx-%lx", &parts[count].start, &parts[count].end), 2);
    parts[count++].is_code = is_code;
  }
  fclose(maps);
  return count;
}

// From here on the C library's clock functions must not be called: they go where the code was.
void unmap_all() {
  Part parts[8];
  const int count = find_parts(parts, 8);
  for (int i = 0; i < count; ++i)
    MUST(munmap(reinterpret_cast<void*>(parts[i].start), parts[i].end - parts[i].start));
}

// All parts to another place, with the same distances; that of the code.
uintptr_t move_all() {
  Part parts[8];
  const int count = find_parts(parts, 8);
  CHECK(count >= 2);
  const size_t bytes = parts[count - 1].end - parts[0].start;
  void* to = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(to != MAP_FAILED);
  uintptr_t code = 0;
  for (int i = 0; i < count; ++i) {
    const size_t size = parts[i].end - parts[i].start;
    const uintptr_t target = reinterpret_cast<uintptr_t>(to) + (parts[i].start - parts[0].start);
    CHECK(mremap(reinterpret_cast<void*>(parts[i].start), size, size, MREMAP_MAYMOVE | MREMAP_FIXED,
                 reinterpret_cast<void*>(target)) == reinterpret_cast<void*>(target));
    if (parts[i].is_code) code = target;
  }
  return code;
}

using GetTime = long (*)(clockid_t, timespec*);

// __vdso_clock_gettime of the ELF image at `code`.
GetTime find_function(uintptr_t code) {
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(code);
  CHECK(memcmp(header->e_ident, ELFMAG, SELFMAG) == 0);
  const auto* sections = reinterpret_cast<const Elf64_Shdr*>(code + header->e_shoff);
  for (int i = 0; i < header->e_shnum; ++i) {
    if (sections[i].sh_type != SHT_DYNSYM) continue;
    const auto* symbols = reinterpret_cast<const Elf64_Sym*>(code + sections[i].sh_offset);
    const auto* names = reinterpret_cast<const char*>(code + sections[sections[i].sh_link].sh_offset);
    for (size_t k = 0; k < sections[i].sh_size / sizeof(Elf64_Sym); ++k)
      if (strcmp(names + symbols[k].st_name, "__vdso_clock_gettime") == 0)
        return reinterpret_cast<GetTime>(code + symbols[k].st_value);
  }
  workload::skip("the vdso has no clock_gettime");
}

int64_t nanoseconds(const timespec& t) { return t.tv_sec * 1'000'000'000LL + t.tv_nsec; }

void check_clock(GetTime get_time) {
  timespec first{}, through_vdso{}, last{};
  CHECK_EQ(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &first), 0);
  CHECK_EQ(get_time(CLOCK_MONOTONIC, &through_vdso), 0);
  CHECK_EQ(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &last), 0);
  CHECK(nanoseconds(first) <= nanoseconds(through_vdso) && nanoseconds(through_vdso) <= nanoseconds(last));
}

}  // namespace

WORKLOAD("a vdso that a process moved is where it put it, and works; one that it unmapped stays away") {
  const pid_t mover = workload::fork_child([] {
    const uintptr_t code = move_all();
    const GetTime get_time = find_function(code);
    check_clock(get_time);
    workload::checkpoint_here();
    CHECK(find_function(code) == get_time);
    check_clock(get_time);
  });
  const pid_t bare = workload::fork_child([] {
    unmap_all();
    workload::checkpoint_here();
    Part parts[8];
    CHECK_EQ(find_parts(parts, 8), 0);
  });
  workload::checkpoint_here();
  workload::join(mover);
  workload::join(bare);
}
