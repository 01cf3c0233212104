// The kit for workloads: small programs that set up one behaviour, wait while they are checkpointed
// and restored, and then check that the behaviour is as it was.
//
//   WORKLOAD("an eventfd keeps its counter") {
//     const int fd = MUST(eventfd(7, 0));
//     workload::checkpoint_here();
//     uint64_t value = 0;
//     MUST(read(fd, &value, sizeof value));
//     CHECK_EQ(value, 7u);
//   }
//
// The first argument is a directory, which is also the working directory. Everything that the
// driver learns it learns from files there, so that a workload needs no terminal and no pipe:
//   ready    "PID\n", written when the workload waits in checkpoint_here()
//   verdict  "PASS", "SKIP reason" or "FAIL file:line: what", written once
// The driver says "go on" with SIGUSR2, which is blocked from the first instruction of main() on and
// taken by sigwait, so it cannot come too early.
#pragma once

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <string_view>
#include <type_traits>

namespace workload {

inline constexpr int kGo = 12;  // SIGUSR2

// In the program's first process: announces readiness and waits for the driver. In a process made by
// fork_child: lets the parent's fork_child return and waits for join().
void checkpoint_here();

namespace detail {
pid_t begin_child();
void wait_until_child_is_ready();
[[noreturn]] void end_child();
}  // namespace detail

// Runs `body` in a new process and returns its pid once that waits in checkpoint_here() (or has
// ended). When body returns, the process exits with 0.
template <class Body>
pid_t fork_child(Body body) {
  const pid_t pid = detail::begin_child();
  if (pid == 0) {
    body();
    detail::end_child();
  }
  detail::wait_until_child_is_ready();
  return pid;
}
// Tells a child of fork_child to go on and waits until it has ended well.
void join(pid_t child);
// The same in two steps, where the child must be watched in between.
void tell_to_go(pid_t child);
void wait_for_success(pid_t child);

// Ends the process with a verdict.
[[noreturn]] void skip(const char* why);
[[noreturn, gnu::format(printf, 3, 4)]] void fail(const char* file, int line, const char* text, ...);

// Where the files above go; for a workload that changes its root.
void set_directory(const char* path);
const char* directory();

// Fills with bytes that depend on the seed and the position, and tells whether they still stand.
void fill_pattern(void* memory, size_t bytes, uint32_t seed);
bool has_pattern(const void* memory, size_t bytes, uint32_t seed);

// A value of this process' /proc/self/status, e.g. "CapEff"; `tid` 0: of this thread.
bool status_value(const char* key, char* value, size_t size, pid_t tid = 0);

int run(int argc, char** argv, const char* claim, void (*body)());

// ---- what CHECK_EQ and MUST are made of

struct Printed {
  char text[80];
};
template <class T>
Printed print(const T& value) {
  Printed out{};
  if constexpr (std::is_same_v<T, bool>) snprintf(out.text, sizeof out.text, "%s", value ? "true" : "false");
  else if constexpr (std::is_convertible_v<T, std::string_view>)
    snprintf(out.text, sizeof out.text, "\"%.*s\"", static_cast<int>(std::string_view(value).size()),
             std::string_view(value).data());
  else if constexpr (std::is_pointer_v<T>) snprintf(out.text, sizeof out.text, "%p", static_cast<const void*>(value));
  else if constexpr (std::is_floating_point_v<T>) snprintf(out.text, sizeof out.text, "%.17g", static_cast<double>(value));
  else if constexpr (std::is_unsigned_v<T>)
    snprintf(out.text, sizeof out.text, "%llu (0x%llx)", static_cast<unsigned long long>(value), static_cast<unsigned long long>(value));
  else snprintf(out.text, sizeof out.text, "%lld", static_cast<long long>(value));
  return out;
}

template <class A, class B>
void check_eq(const A& a, const B& b, const char* text, const char* file, int line) {
  bool equal;
  if constexpr (std::is_convertible_v<A, std::string_view> && std::is_convertible_v<B, std::string_view>)
    equal = std::string_view(a) == std::string_view(b);
  else equal = a == b;
  if (!equal) fail(file, line, "%s: %s and %s", text, print(a).text, print(b).text);
}

template <class T>
T must(T result, const char* text, const char* file, int line) {
  bool bad;
  if constexpr (std::is_pointer_v<T>)
    bad = result == nullptr || reinterpret_cast<intptr_t>(result) == -1;  // fopen's and mmap's ways
  else bad = result < 0;
  if (bad) fail(file, line, "%s: %s", text, strerror(errno));
  return result;
}

}  // namespace workload

#define WORKLOAD(claim)                                               \
  static void workload_body();                                        \
  int main(int argc, char** argv) {                                   \
    return ::workload::run(argc, argv, claim, workload_body);         \
  }                                                                   \
  static void workload_body()

#define CHECK(condition) \
  ((condition) ? (void)0 : ::workload::fail(__FILE__, __LINE__, "%s does not hold", #condition))
#define CHECK_EQ(a, b) ::workload::check_eq((a), (b), #a " == " #b, __FILE__, __LINE__)
// The result of a call that fails with -1, NULL or MAP_FAILED and errno.
#define MUST(call) ::workload::must((call), #call, __FILE__, __LINE__)
