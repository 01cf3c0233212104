// Cast: address spaces.

#include <fcntl.h>
#include <sys/syscall.h>

#include "base/format.h"
#include "engine/cast.h"

namespace dormouse::engine {

Result<> Cast::build_memory(Actor& actor) {
  const ImageTask* from = actor.family->inherits_memory ? actor.parent->image : nullptr;
  actor.memory = TRY(MemoryPlan::make(*actor.image, from, scratch_));
  const MemoryPlan& plan = *actor.memory;

  // They arrive as 0, 1, 2, … in a table that is empty but for the service socket.
  MemoryFiles fds;
  std::vector<int> descriptors;
  const auto next = [&](int descriptor) {
    descriptors.push_back(descriptor);
    return static_cast<int>(descriptors.size()) - 1;
  };
  const Fd pages = TRY(context_.in.open_raw(images::kPages, actor.image->pages_number));
  fds.pages = next(pages.get());
  const std::uint32_t executable = actor.image->mm->exe_file_id();
  if (!actor.executable || !same_file(*actor.executable, executable))
    fds.executable = next(TRY(files_->open(executable)));
  actor.executable = executable;
  for (const std::uint32_t id : plan.files()) fds.files.push_back(next(TRY(files_->open(id))));
  for (const std::uint64_t id : plan.shared()) fds.shared.push_back(next(shared_->descriptor(id)));
  TRY(hand_out(actor.threads.front(), descriptors));

  parasite::Program map;
  plan.append_map(map, fds);
  TRY(run(actor, map));
  TRY(fill_memory(actor, fds));
  parasite::Program seal;
  plan.append_seal(seal);
  seal.call("close what was mapped", SYS_close_range, {0, descriptors.size() - 1, 0});
  TRY(run(actor, seal));
  pages_restored_ += plan.bytes() / 4096;
  return {};
}

bool Cast::same_file(std::uint32_t one, std::uint32_t other) const {
  const pb::file_entry& a = context_.image.files.at(one);
  const pb::file_entry& b = context_.image.files.at(other);
  return one == other || (a.has_reg() && b.has_reg() && a.reg().name() == b.reg().name());
}

Result<> Cast::fill_memory(Actor& actor, const MemoryFiles& fds) {
  const MemoryPlan& plan = *actor.memory;
  const std::size_t room = yard_->area().program_room() / 2;
  for (std::size_t first = 0; first < plan.chunks().size();) {
    parasite::Program program;
    std::vector<parasite::OpRef> checksums;
    std::size_t last = first;
    while (last < plan.chunks().size() && program.size_bytes() < room) {
      plan.append_fill(program, fds, last, last + 1, checksums);
      ++last;
    }
    const auto placed = TRY(yard_->run(actor.threads.front(), program));
    std::vector<std::uint64_t> sums;
    for (const parasite::OpRef op : checksums) sums.push_back(static_cast<std::uint64_t>(placed.result(op)));
    TRY(check_sums(actor, first, sums));
    first = last;
  }
  return {};
}

// Images of the reference engine have no checksums: there is nothing to compare with then.
Result<> Cast::check_sums(const Actor& actor, std::size_t first, const std::vector<std::uint64_t>& sums) const {
  const auto expected = context_.in.page_chunk_checksums(actor.image->pages_number);
  for (std::size_t i = 0; i < sums.size() && first + i < expected.size(); ++i)
    if (sums[i] != expected[first + i])
      return fail(Error::corrupt(format("checksum of the pages at offset {} is wrong", actor.memory->chunks()[first + i].offset))
                      .object(images::file_name(images::kPages, actor.image->pages_number))
                      .remedy("the file was damaged after the checkpoint"));
  return {};
}

}  // namespace dormouse::engine
