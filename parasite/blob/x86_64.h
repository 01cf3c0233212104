// The interpreter's few instructions that C++ cannot say, for x86-64.
#pragma once

#include "parasite/blob/protocol.h"

namespace dormouse::blob {

[[noreturn]] __attribute__((section(".text.head"), used)) void serve(Cell* cell) asm("blob_serve");

inline constexpr uint32_t kSysExit = 60, kSysExitGroup = 231, kSysFutex = 202;

inline int64_t syscall6(uint64_t number, const uint64_t (&a)[6]) {
  int64_t result;
  register uint64_t r10 asm("r10") = a[3];
  register uint64_t r8 asm("r8") = a[4];
  register uint64_t r9 asm("r9") = a[5];
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

// A system call of 32-bit code. 64-bit code may make it too: the entry decides, not the code segment. Kernels before
// 4.17 clear r8 to r11.
inline int64_t syscall32(uint32_t number, const uint64_t (&a)[6]) {
  uint32_t result;
  asm volatile("int $0x80"
               : "=a"(result)
               : "a"(number), "b"(static_cast<uint32_t>(a[0])), "c"(static_cast<uint32_t>(a[1])),
                 "d"(static_cast<uint32_t>(a[2])), "S"(static_cast<uint32_t>(a[3])), "D"(static_cast<uint32_t>(a[4]))
               : "r8", "r9", "r10", "r11", "memory");
  return static_cast<int32_t>(result);
}

// clone3; the child has the stack that its clone_args name and nothing else to return to.
inline int64_t spawn(uint64_t clone_args, uint64_t size, uint64_t child_cell, void (*entry)(Cell*)) {
  int64_t result;
  asm volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xor %%ebp, %%ebp\n\t"
      "mov %[cell], %%rdi\n\t"
      "call *%[entry]\n\t"
      "ud2\n"
      "1:"
      : "=a"(result)
      : "a"(435ull), "D"(clone_args), "S"(size), [cell] "r"(child_cell), [entry] "r"(entry)
      : "rcx", "r11", "memory");
  return result;
}

// `frame` starts with the return address that rt_sigreturn's caller would have popped.
[[noreturn]] inline void signal_return(uint64_t frame) {
  asm volatile(
      "lea 8(%0), %%rsp\n\t"
      "mov $15, %%eax\n\t"
      "syscall\n\t"
      "ud2"
      :
      : "r"(frame)
      : "memory");
  __builtin_unreachable();
}

// munmap(area) from outside the area: the gadget's `ret` takes the frame's first word, the address of
// an rt_sigreturn restorer, just as if a signal handler returned.
[[noreturn]] inline void signal_return_unmapping(uint64_t frame, uint64_t base, uint64_t size,
                                                 uint64_t gadget) {
  asm volatile(
      "mov %[frame], %%rsp\n\t"
      "jmp *%[gadget]"
      :
      : "a"(11ull), [frame] "r"(frame), "D"(base), "S"(size), [gadget] "r"(gadget)
      : "memory");
  __builtin_unreachable();
}

// Makes *word 0 and wakes who waits there, from outside the area: futex(FUTEX_WAKE_OP) with FUTEX_OP_SET and 0.
[[noreturn]] inline void signal_return_telling(uint64_t frame, uint64_t word, uint64_t gadget) {
  register uint64_t r10 asm("r10") = 0;
  register uint64_t r8 asm("r8") = word;
  register uint64_t r9 asm("r9") = 0;
  asm volatile(
      "mov %[frame], %%rsp\n\t"
      "jmp *%[gadget]"
      :
      : "a"(202ull), [frame] "r"(frame), "D"(word), "S"(5ull), "d"(1ull), "r"(r10), "r"(r8), "r"(r9), [gadget] "r"(gadget)
      : "memory");
  __builtin_unreachable();
}

// The same three ways for a thread of 32-bit code. Its frame (struct rt_sigframe_ia32) is returned from with the
// i386 system call, which is what its seccomp filters know, if it has any.
[[noreturn]] inline void signal_return32(uint64_t frame) {
  asm volatile(
      "lea 4(%0), %%rsp\n\t"
      "mov $173, %%eax\n\t"
      "int $0x80\n\t"
      "ud2"
      :
      : "r"(frame)
      : "memory");
  __builtin_unreachable();
}

// On a struct sigframe_ia32: the restorer would have popped the signal's number too.
[[noreturn]] inline void old_signal_return32(uint64_t frame) {
  asm volatile(
      "lea 8(%0), %%rsp\n\t"
      "mov $119, %%eax\n\t"
      "int $0x80\n\t"
      "ud2"
      :
      : "r"(frame)
      : "memory");
  __builtin_unreachable();
}

// Goes on as 32-bit code at the gadget: iretq changes the code segment and the stack at once.
[[noreturn]] inline void signal_return_unmapping32(uint64_t stack, uint64_t base, uint64_t size, uint64_t gadget) {
  asm volatile(
      "push $0x2b\n\t"
      "push %[stack]\n\t"
      "push $0x202\n\t"
      "push $0x23\n\t"
      "push %[gadget]\n\t"
      "iretq"
      :
      : "a"(91ull), "b"(base), "c"(size), [stack] "r"(stack), [gadget] "r"(gadget)
      : "memory");
  __builtin_unreachable();
}

[[noreturn]] inline void signal_return_telling32(uint64_t stack, uint64_t word, uint64_t gadget) {
  asm volatile(
      "push $0x2b\n\t"
      "push %[stack]\n\t"
      "push $0x202\n\t"
      "push $0x23\n\t"
      "push %[gadget]\n\t"
      "xor %%ebp, %%ebp\n\t"
      "iretq"
      :
      : "a"(240ull), "b"(word), "c"(5ull), "d"(1ull), "S"(0ull), "D"(word), [stack] "r"(stack), [gadget] "r"(gadget)
      : "memory");
  __builtin_unreachable();
}

inline void copy_words(uint64_t* to, const uint64_t* from, uint64_t count) {
  asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

inline void pause_briefly() { asm volatile("pause"); }

}  // namespace dormouse::blob
