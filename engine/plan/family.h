// Who is born when: parents, memory that is inherited, sessions. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "engine/plan/image.h"

namespace dormouse::engine {

// The moments in a parent's life at which a child can be born.
enum class BornWhen : std::uint8_t {
  kEmpty,        // the parent holds nothing but the area, and is in the session it was born into
  kWithMemory,   // its memory is restored; still in the session it was born into
  kInSession,    // it has its own session and its memory
};

struct FamilyMember {
  std::size_t parent = 0;            // index into Image::tasks; the root's is itself
  std::vector<std::size_t> children;
  BornWhen born = BornWhen::kEmpty;
  bool inherits_memory = false;
  bool makes_session = false;        // setsid()
  bool session_first = false;        // no child needs the old session: setsid() before anything else
  bool makes_group = false;          // setpgid(0, 0)
  bool joins_group = false;          // setpgid(0, pgid), once all groups are there
};

struct Family {
  std::vector<FamilyMember> members;  // parallel to Image::tasks
};

// `born_session`: the session the root is born into, as its pid namespace numbers it; 0: one from outside.
Result<Family> plan_family(const Image& image, bool shell_job);

}  // namespace dormouse::engine
