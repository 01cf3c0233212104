// A descriptor of the engine's, lent to a held process for a while.
#pragma once

#include "base/error.h"
#include "parasite/host/held_process.h"

namespace dormouse::parasite {

// The process makes a socket pair, the engine takes one end out with pidfd_getfd and sends the descriptor
// through it. Should the engine die, the process's farewell program closes all of it.
class LentDescriptor {
 public:
  static Result<LentDescriptor> lend(Keeper& keeper, HeldProcess& held, int pidfd, int descriptor);
  LentDescriptor(LentDescriptor&& other) noexcept;
  LentDescriptor& operator=(LentDescriptor&&) = delete;
  ~LentDescriptor();  // takes it back, best effort

  int number() const { return number_; }  // in the process
  [[nodiscard]] Result<> take_back();

 private:
  LentDescriptor(Keeper& keeper, HeldProcess& held, int number)
      : keeper_(&keeper), held_(&held), number_(number) {}
  Keeper* keeper_;
  HeldProcess* held_;
  int number_;
};

}  // namespace dormouse::parasite
