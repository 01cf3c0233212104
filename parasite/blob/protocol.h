// What the engine and the interpreter inside a task agree on. Both sides compile this header; it sees
// nothing but fixed-width integers.
//
// The interpreter ("the blob") runs in a held task or in a puppet. It owns no memory of its own: text,
// cells, stacks, programs and data live in an area, a shared mapping that the engine sees too.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace dormouse::blob {

inline constexpr uint32_t kProtocolVersion = 5;

// The closed list of things an operation can be.
enum class OpCode : uint16_t {
  kSyscall = 0,      // number(args…)
  kSpawn = 1,        // clone3(args[0] = clone_args, args[1] = its size); the child serves the cell args[2]
  kHash = 2,         // XXH64 (seed 0) over args[1] iovecs at args[0], each a multiple of 32 bytes long
  kCopyChanged = 3,  // copies args[2] bytes from args[1] to args[0] page by page where they differ;
                     // the result is the number of pages copied
  kStore = 4,        // *(uint64_t*)args[0] = args[1]
  kZeroPages = 5,    // the result is the number of pages among args[1] bytes at args[0] that are not zero;
                     // used where only the task can look
  kSyscall32 = 6,    // number(args[0] to args[4]) as 32-bit code makes it: what the kernel keeps once for each kind
                     // of code. Pointers must be below 4 GiB
};

// What result lets a program go on.
enum class Expect : uint8_t {
  kOk = 0,       // not an errno
  kExact = 1,    // exactly `expected`
  kErrno = 2,    // ok, or the errno `expected`
  kAnything = 3,
};

// What an argument's 64 bits mean.
enum class ArgKind : uint8_t {
  kImmediate = 0,
  kResult = 1,  // the result of the earlier operation with that index
  kLoad = 2,    // the 32-bit value at that address (descriptor numbers that a program has received)
};

struct Op {
  OpCode code;
  Expect expect;
  uint8_t reserved;
  uint32_t number;    // system call number
  uint64_t args[6];
  uint16_t kinds;     // 2 bits per argument, the first in the lowest
  uint16_t reserved2;
  uint32_t label;     // names the operation on the engine's side
  int64_t expected;
  int64_t result;     // written by the interpreter
};
static_assert(sizeof(Op) == 80);

struct ProgramHeader {
  uint32_t count;
  uint32_t done;   // operations that ended as expected; count: success
  // Op ops[count] follows
};
static_assert(sizeof(ProgramHeader) == 8);

// Values of Cell::leave_by: how the thread goes when its engine is gone or says so.
enum class Leave : uint32_t {
  kSignalReturn = 0,  // a borrowed thread: rt_sigreturn on its frame
  kExitThread = 1,    // a helper thread
  kExitGroup = 2,     // a puppet of an unfinished restore
  kSignalReturn32 = 3,  // a borrowed thread of 32-bit code: the frame, the gadget and the restorer are i386 ones
  kOldSignalReturn32 = 4,  // the same with the frame of sigreturn, all that seccomp's strict mode leaves to such a thread
};

// One per thread. `word` is a robust futex that the engine holds: its value is the engine's tid, with
// FUTEX_WAITERS set while the thread has nothing to do. Kernel: a dying owner's words get
// FUTEX_OWNER_DIED and one waiter each is woken (Documentation/locking/robust-futexes).
struct Cell {
  uint64_t robust_next;  // the engine's list: an address in the engine
  uint32_t word;
  uint32_t finished;     // counts programs run; a futex the engine waits on
  uint64_t program;      // address of the ProgramHeader, in the task
  uint64_t frame;        // address of the signal frame (kSignalReturn and its kin)
  Leave leave_by;
  uint32_t command;      // Command
  uint64_t area;         // address of the AreaHeader, in the task
  uint64_t stack_top;
  uint32_t leaves_last;  // 1: waits for the other borrowed threads, then cleans up
  uint32_t inside;       // 1: the area is needed until its borrowed thread has made this 0 as it leaves; a futex
};
static_assert(sizeof(Cell) == 64);

enum class Command : uint32_t { kRun = 0, kLeave = 1 };

// First thing in an area.
struct AreaHeader {
  uint64_t base, size;        // the area itself, in the task
  uint32_t cells;             // how many there are. The borrowed thread of the first leaves last and cleans up
  uint32_t version;
  uint64_t farewell;          // program (or 0) that the last thread runs before it goes: closes what was lent
  uint64_t unmap_gadget;      // `syscall; …; ret` (i386: `int $0x80; …; ret`) outside the area, or 0: then the area
                              // stays mapped
  uint32_t helper;            // id of the helper thread while there is one: set by the call that makes it, and its
                              // clear_child_tid, a futex
  uint32_t spins;             // how often a thread without work looks again before it sleeps
  uint32_t gadget_pops;       // bytes that an i386 gadget takes off the stack before it returns
  uint32_t reserved;
};
static_assert(sizeof(AreaHeader) == 56);

// Where the cells are in an area, each with its stack growing down to it.
inline constexpr uint64_t kFirstCell = 2 * 4096, kSlotBytes = 2048;

inline constexpr size_t kFutexOffset = offsetof(Cell, word) - offsetof(Cell, robust_next);

}  // namespace dormouse::blob
