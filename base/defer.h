// Undo written next to do.
#pragma once

#include <utility>

namespace dormouse {

template <class F>
class [[nodiscard]] Defer {
 public:
  explicit Defer(F f) : f_(std::move(f)) {}
  Defer(const Defer&) = delete;
  Defer& operator=(const Defer&) = delete;
  ~Defer() {
    if (armed_) f_();
  }
  void cancel() { armed_ = false; }

 private:
  F f_;
  bool armed_ = true;
};
template <class F>
Defer(F) -> Defer<F>;

}  // namespace dormouse
