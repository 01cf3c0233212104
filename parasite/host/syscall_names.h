#pragma once

#include <string>

namespace dormouse::parasite {

// "mmap" for SYS_mmap on the native machine; "syscall_NNN" for a number nobody knows.
std::string syscall_name(long number);

}  // namespace dormouse::parasite
