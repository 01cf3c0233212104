// The interpreter: waits for programs, runs them, and knows the way back when its engine is gone.
// Freestanding; no writable state, no relocation, no libc: blob.lds refuses anything else.

#include "parasite/blob/protocol.h"
#include "parasite/blob/x86_64.h"

namespace dormouse::blob {
namespace {

constexpr uint32_t kOwnerDied = 0x40000000, kWaiters = 0x80000000;
constexpr uint64_t kPage = 4096;
constexpr long kFutexWait = 0, kFutexWake = 1;

struct Iovec {
  uint64_t base, length;
};

bool is_errno(int64_t value) { return value < 0 && value >= -4095; }

uint64_t rotate(uint64_t v, int by) { return (v << by) | (v >> (64 - by)); }

constexpr uint64_t kPrime1 = 0x9E3779B185EBCA87, kPrime2 = 0xC2B2AE3D27D4EB4F, kPrime3 = 0x165667B19E3779F9,
                   kPrime4 = 0x85EBCA77C2B2AE63;

uint64_t lane(uint64_t accumulator, uint64_t input) {
  return rotate(accumulator + input * kPrime2, 31) * kPrime1;
}
uint64_t merge(uint64_t hash, uint64_t accumulator) {
  return (hash ^ lane(0, accumulator)) * kPrime1 + kPrime4;
}

// XXH64 of inputs whose length is a multiple of 32 and not zero: no tail to handle.
uint64_t hash_pages(const Iovec* vectors, uint64_t count) {
  uint64_t v1 = kPrime1 + kPrime2, v2 = kPrime2, v3 = 0, v4 = 0 - kPrime1, total = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const auto* at = reinterpret_cast<const uint64_t*>(vectors[i].base);
    const auto* end = at + vectors[i].length / 8;
    total += vectors[i].length;
    for (; at != end; at += 4) {
      v1 = lane(v1, at[0]);
      v2 = lane(v2, at[1]);
      v3 = lane(v3, at[2]);
      v4 = lane(v4, at[3]);
    }
  }
  uint64_t hash = rotate(v1, 1) + rotate(v2, 7) + rotate(v3, 12) + rotate(v4, 18);
  hash = merge(merge(merge(merge(hash, v1), v2), v3), v4) + total;
  hash = (hash ^ (hash >> 33)) * kPrime2;
  hash = (hash ^ (hash >> 29)) * kPrime3;
  return hash ^ (hash >> 32);
}

bool same_page(const uint64_t* a, const uint64_t* b) {
  for (uint64_t i = 0; i < kPage / 8; ++i)
    if (a[i] != b[i]) return false;
  return true;
}

int64_t copy_changed(uint64_t to, uint64_t from, uint64_t length) {
  int64_t copied = 0;
  for (uint64_t offset = 0; offset < length; offset += kPage) {
    auto* target = reinterpret_cast<uint64_t*>(to + offset);
    const auto* source = reinterpret_cast<const uint64_t*>(from + offset);
    if (same_page(target, source)) continue;
    copy_words(target, source, kPage / 8);
    ++copied;
  }
  return copied;
}

int64_t count_nonzero_pages(uint64_t at, uint64_t length) {
  int64_t found = 0;
  for (uint64_t offset = 0; offset < length; offset += kPage) {
    const auto* words = reinterpret_cast<const uint64_t*>(at + offset);
    uint64_t any = 0;
    for (uint64_t i = 0; i < kPage / 8; ++i) any |= words[i];
    found += any != 0;
  }
  return found;
}

int64_t perform(const Op& op, const uint64_t (&a)[6]) {
  switch (op.code) {
    case OpCode::kSyscall: return syscall6(op.number, a);
    case OpCode::kSpawn: return spawn(a[0], a[1], a[2], &serve);
    case OpCode::kHash:
      return static_cast<int64_t>(hash_pages(reinterpret_cast<const Iovec*>(a[0]), a[1]));
    case OpCode::kCopyChanged: return copy_changed(a[0], a[1], a[2]);
    case OpCode::kStore: *reinterpret_cast<uint64_t*>(a[0]) = a[1]; return 0;
    case OpCode::kZeroPages: return count_nonzero_pages(a[0], a[1]);
    case OpCode::kSyscall32: return syscall32(op.number, a);
  }
  return -38;  // ENOSYS
}

bool acceptable(const Op& op) {
  switch (op.expect) {
    case Expect::kOk: return !is_errno(op.result);
    case Expect::kExact: return op.result == op.expected;
    case Expect::kErrno: return !is_errno(op.result) || op.result == -op.expected;
    case Expect::kAnything: return true;
  }
  return false;
}

// `word`: of the cell; when its owner is gone nobody wants the rest, and seccomp, which a tracer suspends, bites
// again. (The kernel marks the word before it detaches what the owner traced.)
void run(ProgramHeader* program, const uint32_t* word) {
  auto* ops = reinterpret_cast<Op*>(program + 1);
  uint32_t i = 0;
  for (; i < program->count; ++i) {
    if (word && (__atomic_load_n(word, __ATOMIC_ACQUIRE) & kOwnerDied)) break;
    program->done = i;  // should the operation fault, this tells which it was
    Op& op = ops[i];
    uint64_t args[6];
    for (int k = 0; k < 6; ++k) {
      args[k] = op.args[k];
      const auto kind = static_cast<ArgKind>((op.kinds >> (2 * k)) & 3);
      if (kind == ArgKind::kResult) args[k] = static_cast<uint64_t>(ops[args[k]].result);
      if (kind == ArgKind::kLoad) args[k] = *reinterpret_cast<const uint32_t*>(args[k]);
    }
    op.result = perform(op, args);
    if (!acceptable(op)) break;
  }
  program->done = i;
}

[[noreturn]] void exit_with(long number) {
  for (;;) syscall6(static_cast<uint64_t>(number), {0, 0, 0, 0, 0, 0});
}

void wait_until(uint32_t* word, uint32_t wanted) {
  for (;;) {
    const uint32_t seen = __atomic_load_n(word, __ATOMIC_ACQUIRE);
    if (seen == wanted) return;
    syscall6(kSysFutex, {reinterpret_cast<uint64_t>(word), kFutexWait, seen, 0, 0, 0});
  }
}

// Nobody may take the area away while somebody still runs in it: a thread says that it has left by a
// system call that it makes outside, and the last one waits for all others to have said so.
[[noreturn]] void leave(Cell* cell) {
  if (cell->leave_by == Leave::kExitGroup) exit_with(kSysExitGroup);
  if (cell->leave_by == Leave::kExitThread) exit_with(kSysExit);
  auto* area = reinterpret_cast<AreaHeader*>(cell->area);
  if (cell->leave_by == Leave::kOldSignalReturn32) old_signal_return32(cell->frame);
  const bool is_32 = cell->leave_by == Leave::kSignalReturn32;
  if (area->unmap_gadget == 0) is_32 ? signal_return32(cell->frame) : signal_return(cell->frame);
  const uint64_t stack = is_32 ? cell->frame - area->gadget_pops : cell->frame;
  const auto inside = reinterpret_cast<uint64_t>(&cell->inside);
  if (cell->leaves_last == 0)
    is_32 ? signal_return_telling32(stack, inside, area->unmap_gadget)
          : signal_return_telling(stack, inside, area->unmap_gadget);
  for (uint64_t i = 1; i < area->cells; ++i)
    wait_until(&reinterpret_cast<Cell*>(area->base + kFirstCell + i * kSlotBytes)->inside, 0);
  wait_until(&area->helper, 0);  // it exits by itself; the kernel says when it needs the area no more
  if (area->farewell != 0) run(reinterpret_cast<ProgramHeader*>(area->farewell), nullptr);
  is_32 ? signal_return_unmapping32(stack, area->base, area->size, area->unmap_gadget)
        : signal_return_unmapping(stack, area->base, area->size, area->unmap_gadget);
}

void wait_for_work(Cell* cell, uint32_t seen) {
  const uint32_t spins = reinterpret_cast<const AreaHeader*>(cell->area)->spins;
  for (uint32_t i = 0; i < spins; ++i) {
    if (__atomic_load_n(&cell->word, __ATOMIC_ACQUIRE) != seen) return;
    pause_briefly();
  }
  syscall6(kSysFutex, {reinterpret_cast<uint64_t>(&cell->word), kFutexWait, seen, 0, 0, 0});
}

}  // namespace

// The blob's first byte: a thread arrives with its cell in the first argument register and its stack
// pointer in the area.
[[noreturn]] void serve(Cell* cell) {
  for (;;) {
    uint32_t word = __atomic_load_n(&cell->word, __ATOMIC_ACQUIRE);
    if (word & kOwnerDied) leave(cell);
    if (word & kWaiters) {
      wait_for_work(cell, word);
      continue;
    }
    if (cell->command == static_cast<uint32_t>(Command::kLeave)) leave(cell);
    run(reinterpret_cast<ProgramHeader*>(cell->program), &cell->word);
    // If the engine died meanwhile, the exchange fails and the loop sees why.
    const bool attended = __atomic_compare_exchange_n(&cell->word, &word, word | kWaiters, false, __ATOMIC_ACQ_REL,
                                                      __ATOMIC_ACQUIRE);
    __atomic_add_fetch(&cell->finished, 1, __ATOMIC_RELEASE);
    if (attended) syscall6(kSysFutex, {reinterpret_cast<uint64_t>(&cell->finished), kFutexWake, 1, 0, 0, 0});
  }
}

}  // namespace dormouse::blob
