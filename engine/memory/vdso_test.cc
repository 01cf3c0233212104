#include "engine/memory/vdso.h"

#include <asm/prctl.h>
#include <elf.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>
#include <string_view>

#include "engine/memory/vdso_symbols.h"
#include "engine/memory/vma_kind.h"
#include "kernel/proc/directory.h"

namespace dormouse::engine {
namespace {

namespace s = vma_status;
constexpr std::uint64_t kCodeAt = 0x7ffc'0000'0000;

void add_vma(ImageTask& task, std::uint64_t start, std::uint64_t bytes, std::uint32_t status) {
  pb::vma_entry& vma = *task.mm->add_vmas();
  vma.set_start(start);
  vma.set_end(start + bytes);
  vma.set_status(status);
}

std::uint64_t data_bytes(const Vdso& own) { return own.pieces.back().offset; }

ImageTask task_with_vdso(const Vdso& own, std::uint64_t code_at, std::uint64_t data_at) {
  ImageTask task;
  task.mm.emplace();
  add_vma(task, 0x400000, 0x1000, s::kAnonPrivate);
  if (data_at != 0) add_vma(task, data_at, data_bytes(own), s::kAnonPrivate | s::kVvar);
  if (code_at != 0) add_vma(task, code_at, own.code.size(), s::kAnonPrivate | s::kVdso);
  return task;
}

// This kernel's code as another kernel might have it: the last byte, padding, is another.
std::vector<std::byte> other_code(const Vdso& own) {
  std::vector<std::byte> code = own.code;
  code.back() ^= std::byte{1};
  return code;
}

// Gives every occurrence of a name another last letter.
void rename(std::vector<std::byte>& code, std::string_view name) {
  const auto* pattern = reinterpret_cast<const std::byte*>(name.data());
  for (auto at = code.begin();;) {
    at = std::search(at, code.end(), pattern, pattern + name.size());
    if (at == code.end()) return;
    at += static_cast<std::ptrdiff_t>(name.size());
    *(at - 1) = std::byte{'_'};
  }
}

TEST(VdsoTest, OwnFunctionsAreFound) {
  const Vdso own = own_vdso().value();
  const auto functions = vdso_functions(own.code);
  ASSERT_TRUE(functions) << functions.error().message();
  EXPECT_TRUE(functions->contains("__vdso_clock_gettime"));
  EXPECT_TRUE(functions->contains("__vdso_getcpu"));
}

TEST(VdsoTest, ADamagedImageIsNamedOrReadButNeverOverrun) {
  const Vdso own = own_vdso().value();
  EXPECT_EQ(vdso_functions({}).error().kind(), Error::Kind::kCorruptImage);
  for (std::size_t bytes = 0; bytes < own.code.size(); bytes += 37)
    (void)vdso_functions(std::vector<std::byte>(own.code.begin(), own.code.begin() + static_cast<std::ptrdiff_t>(bytes)));
  std::vector<std::byte> code = own.code;
  for (std::size_t at = 0; at < 2048; ++at) {
    for (const std::byte wrong : {std::byte{0xff}, std::byte{0x7f}, std::byte{0}}) {
      code[at] = wrong;
      (void)vdso_functions(code);
    }
    code[at] = own.code[at];
  }
}

TEST(VdsoTest, MarksInTheProgramHeadersMakeNoDifference) {
  const Vdso own = own_vdso().value();
  std::vector<std::byte> marked = own.code;
  marked[sizeof(Elf64_Ehdr) + 3] ^= std::byte{0x55};
  EXPECT_TRUE(same_vdso(own.code, marked));
  EXPECT_FALSE(same_vdso(own.code, other_code(own)));
  EXPECT_FALSE(same_vdso(own.code, {}));
}

TEST(VdsoTest, ItIsMappedWhereItWas) {
  const Vdso own = own_vdso().value();
  const auto plan = plan_vdso(task_with_vdso(own, kCodeAt, kCodeAt - data_bytes(own)), own.code, own, {});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->map_at, kCodeAt - data_bytes(own));
  EXPECT_TRUE(plan->moves.empty() && plan->unmaps.empty() && !plan->proxied);
}

TEST(VdsoTest, ATaskWithoutOneGetsNone) {
  const Vdso own = own_vdso().value();
  const auto plan = plan_vdso(task_with_vdso(own, 0, 0), {}, own, {});
  ASSERT_TRUE(plan);
  parasite::Program program;
  append_vdso_map(program, *plan);
  EXPECT_TRUE(program.empty());
}

TEST(VdsoTest, PartsThatWereMovedOrUnmappedAreSoAgain) {
  const Vdso own = own_vdso().value();
  const auto moved = plan_vdso(task_with_vdso(own, kCodeAt, 0x10'0000'0000), own.code, own, {});
  ASSERT_TRUE(moved);
  ASSERT_EQ(moved->moves.size(), own.pieces.size());
  EXPECT_EQ(moved->moves.front().to, 0x10'0000'0000u);
  EXPECT_EQ(moved->moves.back().to, kCodeAt);
  EXPECT_TRUE(moved->unmaps.empty());

  const auto without_data = plan_vdso(task_with_vdso(own, kCodeAt, 0), own.code, own, {});
  ASSERT_TRUE(without_data);
  EXPECT_EQ(without_data->moves.size(), 1u);
  EXPECT_EQ(without_data->unmaps.size(), own.pieces.size() - 1);

  const auto without_code = plan_vdso(task_with_vdso(own, 0, kCodeAt), {}, own, {});
  ASSERT_TRUE(without_code);
  EXPECT_EQ(without_code->moves.size(), own.pieces.size() - 1);
  EXPECT_EQ(without_code->unmaps.size(), 1u);
}

TEST(VdsoTest, AProxyIsPutBesideWhatIsTaken) {
  const Vdso own = own_vdso().value();
  const ImageTask task = task_with_vdso(own, kCodeAt, 0);
  const std::uint64_t end = kCodeAt + own.code.size();
  const AddressRange taken{end, end + 0x5000};
  const auto plan = plan_vdso(task, other_code(own), own, std::span(&taken, 1));
  ASSERT_TRUE(plan) << plan.error().message();
  EXPECT_TRUE(plan->proxied);
  EXPECT_EQ(plan->map_at, taken.end);
  EXPECT_EQ(plan->map_bytes, own.bytes());

  const AddressRange all_above{end, 0x7fff'ffff'f000};
  const auto below = plan_vdso(task, other_code(own), own, std::span(&all_above, 1));
  ASSERT_TRUE(below);
  EXPECT_LE(below->map_at + below->map_bytes, kCodeAt);
  const AddressRange everything{0, 0x7fff'ffff'f000};
  EXPECT_FALSE(plan_vdso(task, other_code(own), own, std::span(&everything, 1)));
}

TEST(VdsoTest, AThreadAtAJumpsDoorIsRefused) {
  const Vdso own = own_vdso().value();
  ImageTask task = task_with_vdso(own, kCodeAt, 0);
  auto& registers = *task.core.mutable_thread_info()->mutable_gpregs();
  const std::uint64_t function = kCodeAt + vdso_functions(own.code)->at("__vdso_clock_gettime");
  registers.set_ip(function);
  EXPECT_TRUE(plan_vdso(task, other_code(own), own, {}));
  registers.set_ip(function + 4);
  const auto plan = plan_vdso(task, other_code(own), own, {});
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().reason(), "a thread was just entering the vdso, which is not this kernel's");
}

TEST(VdsoTest, WithoutSavedCodeAnotherShapeIsRefused) {
  const Vdso own = own_vdso().value();
  EXPECT_TRUE(plan_vdso(task_with_vdso(own, kCodeAt, kCodeAt - data_bytes(own)), {}, own, {}));
  EXPECT_FALSE(plan_vdso(task_with_vdso(own, kCodeAt, 0), {}, own, {}));
}

// --- for real: a child whose vdso becomes a proxy of itself --------------------------------------

[[noreturn]] void run_as_proxy(const VdsoPlan& plan, const Vdso& own, std::uint64_t code_at, std::uint64_t function) {
  for (const VdsoPlan::Store& store : plan.patches) std::memcpy(reinterpret_cast<void*>(store.at), &store.value, 8);
  if (::syscall(SYS_mprotect, code_at, own.code.size(), PROT_READ | PROT_EXEC) != 0) ::_exit(2);
  if (::syscall(SYS_arch_prctl, ARCH_MAP_VDSO_64, plan.map_at) < 0) ::_exit(3);
  timespec before{}, through{}, after{};
  ::syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &before);
  const auto get_time = reinterpret_cast<long (*)(clockid_t, timespec*)>(code_at + function);
  if (get_time(CLOCK_MONOTONIC, &through) != 0) ::_exit(4);
  ::syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &after);
  const auto ns = [](const timespec& t) { return t.tv_sec * 1'000'000'000 + t.tv_nsec; };
  ::_exit(ns(before) <= ns(through) && ns(through) <= ns(after) ? 0 : 5);
}

void expect_proxy_works(bool functions_are_missing_here) {
  Vdso own = own_vdso().value();
  const auto function = vdso_functions(own.code)->at("__vdso_clock_gettime");
  const std::vector<std::byte> image = other_code(own);
  if (functions_are_missing_here) rename(own.code, "clock_gettime");
  void* memory = ::mmap(nullptr, image.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  std::memcpy(memory, image.data(), image.size());
  const auto code_at = reinterpret_cast<std::uint64_t>(memory);
  ImageTask task = task_with_vdso(own, code_at, 0);
  std::vector<AddressRange> taken;
  std::vector<AddressRange> kernel_code;
  const auto maps = proc::ProcDir::self()->maps().value();
  for (const auto& vma : maps) {
    taken.push_back({vma.start, vma.end});
    if (vma.name == "[vdso]" || vma.name.starts_with("[vvar")) kernel_code.push_back({vma.start, vma.end});
  }
  const auto plan = plan_vdso(task, image, own, taken);
  ASSERT_TRUE(plan) << plan.error().message();
  const pid_t child = ::fork();
  if (child == 0) {
    // The kernel maps its vdso only where there is none.
    for (const AddressRange& range : kernel_code) ::syscall(SYS_munmap, range.start, range.end - range.start);
    run_as_proxy(*plan, own, code_at, function);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << std::hex << status;
  ::munmap(memory, image.size());
}

TEST(VdsoTest, AProxysFunctionsAreThisKernels) { expect_proxy_works(false); }
TEST(VdsoTest, AFunctionThatThisKernelLacksBecomesItsSystemCall) { expect_proxy_works(true); }

// --- the same for 32-bit code, which the test calls from its own 64-bit code ----------------------

// In memory below 4 GiB: what a far call needs, the code that makes it (the return address is cut off, too), the code that
// it calls, and a stack.
struct Low {
  std::uint32_t target;
  std::uint16_t segment;
  std::uint64_t stack_of_before, frame_of_before;  // 32-bit code keeps lower halves only
  // mov %rsp, 8(%rdi); mov %rdx, %rsp; lcall *(%rdi); mov %edi, %edi; mov 8(%rdi), %rsp; ret
  unsigned char caller[16] = {0x48, 0x89, 0x67, 0x08, 0x48, 0x89, 0xd4, 0xff, 0x1f, 0x89, 0xff, 0x48, 0x8b, 0x67, 0x08, 0xc3};
  // push %ecx; push %ebx; call *%eax; add $8, %esp; lret
  unsigned char code[8] = {0x51, 0x53, 0xff, 0xd0, 0x83, 0xc4, 0x08, 0xcb};
  std::int32_t time[2][4];
  std::byte stack[3000];
};
static_assert(offsetof(Low, stack_of_before) == 8);

std::uint32_t low(const void* pointer) { return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(pointer)); }

std::int32_t call_32_bit_code(Low& area, std::uint32_t function, std::uint32_t one, std::uint32_t two) {
  area.target = low(area.code);
  area.segment = 0x23;
  std::uint64_t result = function;
  std::uint64_t stack = (reinterpret_cast<std::uintptr_t>(area.stack) + sizeof area.stack - 64) & ~std::uintptr_t{15};
  asm volatile(
      "mov %%rbp, %c[frame](%%rdi)\n\t"
      "mov $0x2b, %%esi\n\t mov %%esi, %%ds\n\t mov %%esi, %%es\n\t"  // 64-bit code has null selectors there
      "lea -128(%%rsp), %%rsp\n\t"                                   // the red zone
      "lea %c[caller](%%rdi), %%rsi\n\t"
      "call *%%rsi\n\t"
      "lea 128(%%rsp), %%rsp\n\t"
      "mov %c[frame](%%rdi), %%rbp"
      : "+a"(result), "+d"(stack)
      : "D"(&area), "b"(one), "c"(two), [frame] "i"(offsetof(Low, frame_of_before)), [caller] "i"(offsetof(Low, caller))
      : "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "cc", "memory");
  return static_cast<std::int32_t>(result);
}

// At a function's address there: clock_gettime64 with an i386 vdso, before and after which the clock is read.
[[noreturn]] void run_as_proxy32(const VdsoPlan& plan, Low& area, std::uint32_t function) {
  for (const VdsoPlan::Store& store : plan.patches) std::memcpy(reinterpret_cast<void*>(store.at), &store.value, 8);
  if (::syscall(SYS_arch_prctl, ARCH_MAP_VDSO_32, plan.map_at) < 0) ::_exit(3);
  timespec before{}, after{};
  std::int64_t through[2] = {};
  ::syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &before);
  if (call_32_bit_code(area, function, CLOCK_MONOTONIC, low(&area.time)) != 0) ::_exit(4);
  ::syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &after);
  std::memcpy(through, area.time, sizeof through);
  const auto ns = [](const timespec& t) { return t.tv_sec * 1'000'000'000 + t.tv_nsec; };
  const std::int64_t seen = through[0] * 1'000'000'000 + static_cast<std::int32_t>(through[1]);
  ::_exit(ns(before) <= seen && seen <= ns(after) ? 0 : 5);
}

void expect_proxy32_works(bool functions_are_missing_here) {
  auto found = own_vdso32();
  if (!found) GTEST_SKIP() << found.error().message();
  Vdso own = std::move(*found);
  const auto functions = vdso_functions(own.code);
  ASSERT_TRUE(functions) << functions.error().message();
  EXPECT_TRUE(functions->contains("__kernel_vsyscall"));
  const auto function = functions->at("__vdso_clock_gettime64");
  const std::vector<std::byte> image = other_code(own);
  if (functions_are_missing_here) rename(own.code, "clock_gettime64");
  constexpr int kProtection = PROT_READ | PROT_WRITE | PROT_EXEC, kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT;
  void* memory = ::mmap(nullptr, image.size(), kProtection, kFlags, -1, 0);
  auto* area = new (::mmap(nullptr, sizeof(Low), kProtection, kFlags, -1, 0)) Low;
  std::memcpy(memory, image.data(), image.size());
  const auto code_at = reinterpret_cast<std::uint64_t>(memory);
  std::vector<AddressRange> taken, kernel_code;
  const auto maps = proc::ProcDir::self()->maps().value();
  for (const auto& vma : maps) {
    taken.push_back({vma.start, vma.end});
    if (vma.name == "[vdso]" || vma.name.starts_with("[vvar")) kernel_code.push_back({vma.start, vma.end});
  }
  const auto plan = plan_vdso(task_with_vdso(own, code_at, 0), image, own, taken);
  ASSERT_TRUE(plan) << plan.error().message();
  EXPECT_TRUE(plan->is_32);
  EXPECT_LT(plan->map_at + plan->map_bytes, std::uint64_t{1} << 32);
  const pid_t child = ::fork();
  if (child == 0) {
    for (const AddressRange& range : kernel_code) ::syscall(SYS_munmap, range.start, range.end - range.start);
    run_as_proxy32(*plan, *area, static_cast<std::uint32_t>(code_at + function));
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << std::hex << status;
  ::munmap(memory, image.size());
  ::munmap(area, sizeof(Low));
}

TEST(VdsoTest, AProxysFunctionsOf32BitCodeAreThisKernels) { expect_proxy32_works(false); }
TEST(VdsoTest, AFunctionOf32BitCodeThatThisKernelLacksBecomesItsSystemCall) { expect_proxy32_works(true); }

}  // namespace
}  // namespace dormouse::engine
