// A second thread in a held process or puppet, for copying that one core cannot do fast enough.
//
// It exists from start() to dismiss(). If the engine dies it exits by itself, before the process's last
// borrowed thread takes the area away.
#pragma once

#include <cstdint>
#include <string>

#include "base/error.h"
#include "parasite/host/held_process.h"

namespace dormouse::parasite {

class HelperThread {
 public:
  // Where it works: an area, the slot it may use, and the thread that creates it (its slot and id as the
  // engine sees it; `name` for errors).
  struct Place {
    Area& area;
    std::uint32_t slot = 0;
    std::uint32_t leader_slot = 0;
    pid_t leader_tid = 0;
    std::string name;
    // Of the process that it is born into, if that is a held one: it is traced then, and a fault in it is an error like
    // the others' instead of the process's end. (Of a puppet it may be the end.)
    HeldProcess* held = nullptr;
  };
  // `ns_tid`: the id it is to have in its pid namespace; 0: any.
  static Result<HelperThread> start(Keeper& keeper, Place place, pid_t ns_tid = 0);
  HelperThread(HelperThread&& other) noexcept;
  HelperThread& operator=(HelperThread&&) = delete;
  ~HelperThread();  // dismisses it, best effort

  // Adds its job to a batch; the leader's own job may run at the same time.
  Result<std::size_t> add_to(Batch& batch, const Program& program);
  [[nodiscard]] Result<> dismiss();

 private:
  void trace();
  [[nodiscard]] Result<> collect(Deadline deadline);
  // By which the keeper knows what becomes of it.
  pid_t known_as() const { return tid_ != 0 ? tid_ : place_.leader_tid; }
  HelperThread(Keeper& keeper, Place place) : keeper_(keeper), place_(std::move(place)) {}
  Keeper& keeper_;
  Place place_;
  bool running_ = false;
  pid_t tid_ = 0;  // if it is traced
};

}  // namespace dormouse::parasite
