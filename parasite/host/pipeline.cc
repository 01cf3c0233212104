#include "parasite/host/pipeline.h"

#include <cerrno>

namespace dormouse::parasite {
namespace {
constexpr auto kPatience = std::chrono::minutes(10);
// Then it waits for all and begins anew: pages of the area that are in use already cost nothing more.
constexpr std::size_t kMostPlaced = 4 * Pipeline::kLanes;
}  // namespace

Pipeline::Pipeline(PuppetYard& yard) : yard_(yard) { yard_.area().rewind(); }

Result<> Pipeline::wait_for_oldest() {
  const Entry oldest = std::move(running_.front());
  running_.pop_front();
  TRY(oldest.job.wait(yard_.keeper(), within(kPatience)));
  return oldest.done ? oldest.done(oldest.job.placed()) : Result<>{};
}

Result<std::size_t> Pipeline::next_lane() {
  while (running_.size() >= kLanes) TRY(wait_for_oldest());
  return started_ % kLanes;
}

Result<> Pipeline::start(const Puppet& puppet, Program program, Done done) {
  TRY(next_lane());
  auto owned = std::make_unique<Program>(std::move(program));
  Area& area = yard_.area();
  if (placed_ == kMostPlaced) TRY(finish());
  Result<Placed> placed = area.place(*owned);
  if (!placed && placed.error().err() == ENOSPC && placed_ != 0) {
    TRY(finish());
    placed = area.place(*owned);
  }
  if (!placed) return fail(std::move(placed).error().owner(puppet.name));
  ++placed_;
  ++started_;
  Entry& entry = running_.emplace_back(std::move(owned), Job(area, puppet.slot, puppet.tid, puppet.name, *placed), std::move(done));
  entry.job.start();
  return {};
}

Result<> Pipeline::finish() {
  while (!running_.empty()) TRY(wait_for_oldest());
  yard_.area().rewind();
  placed_ = 0;
  return {};
}

}  // namespace dormouse::parasite
