// Who is born when, of whom, and sharing what: parents, sessions, process groups, memory. Pure.
//
// Usually a parent gives birth to its children itself. A task that was born of somebody else (see lineage.h), or that
// does not share with its parent what another task does, has lost its first parent and was adopted by an ancestor, and
// that is how it comes back: whoever it was born of gives birth to a midwife, the midwife to the task, and when the
// midwife ends the task becomes its parent's. Midwives end when all are born, the last one first: each of them is below
// the parent until then, whoever is to move up in between. Orphans tell of their end by SIGCHLD; who does so by another
// signal and was not born of its parent was born of a sibling, whose signal it has. Leaders that are gone and whose
// number is still in use have a stand-in until the end of the births.
#pragma once

#include <signal.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "base/error.h"
#include "engine/plan/image.h"

namespace dormouse::engine {

// The moments in a parent's life at which a child can be born.
enum class BornWhen : std::uint8_t {
  kEmpty,        // the parent holds nothing but the area, and is in the session it was born into
  kWithMemory,   // its memory is restored; still in the session it was born into
  kInSession,    // it has its own session and its memory
  kAdopted,      // of a midwife: Family::adoptions
};

struct FamilyMember {
  std::size_t parent = 0;            // index into Image::tasks; the root's is itself
  std::vector<std::size_t> children;  // that it gives birth to itself
  BornWhen born = BornWhen::kEmpty;
  // CLONE_VM, CLONE_FILES, CLONE_FS, CLONE_SIGHAND: what it shares with the one that gives birth to it. The
  // first of those who share something has it to itself, and is the one that it is restored in.
  std::uint64_t shares = 0;
  std::uint64_t owns = 0;            // the complement: what is restored in this very task
  bool inherits_memory = false;      // a copy of the parent's, with the pages both still have in common
  bool makes_session = false;        // setsid()
  bool session_first = false;        // no child needs the old session: setsid() before anything else
  bool makes_group = false;          // setpgid(0, 0), although it may go on into another one
  bool joins_group = false;          // setpgid(0, pgid), once all groups are there
  std::vector<std::size_t> early_midwives;  // Family::adoptions: those it gives birth to before it leads its session
};

// Stands for a leader that is gone: a process with its number that ends when all others are where they belong.
struct StandIn {
  std::uint32_t pid = 0;
  bool leads_session = false;  // setsid(); else setpgid(0, 0)
  std::size_t parent = 0;      // member that gives birth to it, and collects it
  int exit_signal = SIGCHLD;
};

struct Adoption {
  bool by_stand_in = false;
  std::size_t giver = 0;     // of the midwife: a member, or a stand-in
  std::size_t parent = 0;    // member; child subreaper at the moment when the midwife ends
  bool as_siblings = false;  // no midwife: the giver, a child of the parent, bears them with CLONE_PARENT
  bool early = false;        // the midwife is born when the giver holds nothing, into the session of its own birth
  std::vector<std::size_t> children;
  std::uint64_t shares = 0;  // of the midwife with its giver

  // The same midwife could do both.
  bool is_like(const Adoption& other) const {
    return by_stand_in == other.by_stand_in && giver == other.giver && parent == other.parent && early == other.early &&
           as_siblings == other.as_siblings;
  }
};

struct Family {
  std::vector<FamilyMember> members;  // parallel to Image::tasks
  std::vector<StandIn> stand_ins;     // a session's come to life before the first adoption they give, a group's
                                      // when all members are born
  std::vector<Adoption> adoptions;    // in order, after the children that parents bear themselves
};

Result<Family> plan_family(const Image& image, bool shell_job);

}  // namespace dormouse::engine
