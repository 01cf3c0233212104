// Puppets: the processes and threads of an unfinished restore. They hold nothing but the interpreter's
// area, which all of them share at one address, and do what programs say.
//
// All of them die with the engine: through the robust futex from their first moment, and through
// PTRACE_O_EXITKILL from the moment they are seized.
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "parasite/host/held_process.h"

namespace dormouse::parasite {

struct Puppet {
  std::uint32_t slot = 0;
  pid_t tid = 0;      // as the engine sees it; 0 until it is known
  pid_t ns_tid = 0;   // in its own pid namespace
  std::string name;   // how errors call it
};

class PuppetYard {
 public:
  // Room for `slots` threads and programs of `program_bytes` at `address` of every puppet.
  static Result<std::unique_ptr<PuppetYard>> create(Keeper& keeper, std::uint64_t address,
                                                    std::uint32_t slots, std::size_t program_bytes);
  ~PuppetYard();
  PuppetYard(const PuppetYard&) = delete;
  PuppetYard& operator=(const PuppetYard&) = delete;

  Area& area() { return area_; }
  Keeper& keeper() { return keeper_; }
  // Makes a slot's cell ready for a thread that is about to be born into it; one whose thread has ended, again.
  [[nodiscard]] Result<> prepare(std::uint32_t slot, bool process);

  // Turns the calling process (a fresh child of the engine) into the puppet of `slot`: maps the area,
  // closes every descriptor but [keep_first, keep_last], and serves. Never returns; on failure the process exits.
  [[noreturn]] void become(std::uint32_t slot, int keep_first, int keep_last);
  // Everything but the area (and what lies in `keep`) out of the address space.
  void append_unmap_all(Program& program) const;
  // A new process (exit_signal SIGCHLD) or thread, as clone3 flags say, under the id
  // child.ns_tid; 0: any.
  void append_spawn(Program& program, const Puppet& child, std::uint64_t flags, int exit_signal) const;

  // Runs one program on one puppet.
  Result<Placed> run(const Puppet& puppet, const Program& program,
                     std::chrono::milliseconds patience = std::chrono::minutes(10));

  [[nodiscard]] Result<> seize(const Puppet& puppet);

 private:
  PuppetYard(Keeper& keeper, Fd memory) : keeper_(keeper), memory_(std::move(memory)) {}
  Keeper& keeper_;
  Fd memory_;
  Area area_;
  std::vector<std::uint32_t> prepared_;
};

}  // namespace dormouse::parasite
