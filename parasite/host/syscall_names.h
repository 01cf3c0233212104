#pragma once

#include <string>

namespace dormouse::parasite {

// "mmap" for SYS_mmap on the native machine; "syscall_NNN" for a number nobody knows.
std::string syscall_name(long number);
// The same for the numbers of 32-bit code (i386).
std::string syscall_name32(long number);

}  // namespace dormouse::parasite
