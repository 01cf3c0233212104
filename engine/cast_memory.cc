// Cast: address spaces.

#include <fcntl.h>
#include <sys/syscall.h>

#include "base/format.h"
#include "engine/cast.h"
#include "engine/ipc/aio_ring.h"
#include "engine/ipc/attachments.h"
#include "kernel/file.h"
#include "parasite/host/helper_thread.h"

namespace dormouse::engine {
namespace {
constexpr std::size_t kWorthAHelper = 16;  // chunks
}

// They arrive as 0, 1, 2, … in a table that is empty but for the service sockets.
Result<Cast::Materials> Cast::plan_memory(Actor& actor) {
  MemoryPlan::Origin from;
  if (actor.family->inherits_memory) from = {actor.parent->image, &actor.parent->vdso};
  actor.memory = TRY(MemoryPlan::make(*actor.image, actor.vdso, from, scratch_));
  MemoryPlan& plan = *actor.memory;
  if (actor.family->inherits_memory && actor.parent->memory)
    plan.leave_out_inherited(*actor.parent->memory, [this](const Chunk& chunk) { return checksum_of(chunk); });

  Materials materials;
  const auto next = [&](int descriptor) {
    materials.descriptors.push_back(descriptor);
    return static_cast<int>(materials.descriptors.size()) - 1;
  };
  const auto next_file = [&](Fd file) { return next(materials.files.emplace_back(std::move(file)).get()); };
  for (const std::uint32_t file : plan.page_files()) materials.fds.pages.push_back(next_file(TRY(context_.open_page_file(file))));
  const std::uint32_t executable = actor.image->mm->exe_file_id();
  if (!actor.executable || !same_file(*actor.executable, executable))
    materials.fds.executable = next_file(TRY(files_->open_as(executable, O_RDONLY)));
  actor.executable = executable;
  for (const MappedFile& file : plan.files())
    materials.fds.files.push_back(next_file(TRY_OR(files_->open_as(file.id, file.flags), std::move(e).owner(actor.threads.front().name))));
  for (const std::uint64_t id : plan.shared()) materials.fds.shared.push_back(next(shared_->descriptor(id)));
  if (actor.image->mm->aios_size() != 0) materials.null_device = next_file(TRY(sys::openat(AT_FDCWD, "/dev/null", O_WRONLY)));
  return materials;
}

Result<> Cast::build_memory(Actor& actor) {
  const Materials materials = TRY(plan_memory(actor));
  const MemoryPlan& plan = *actor.memory;
  TRY(hand_out(actor.threads.front(), materials.descriptors));
  TRY(run_in_turn(actor, plan.map_slices(), [&](parasite::Program& program, std::size_t slice) {
    plan.append_map_slice(program, materials.fds, slice);
  }));
  TRY(fill_memory(actor, materials.fds));
  TRY(run_in_turn(actor, plan.map_slices(), [&](parasite::Program& program, std::size_t slice) {
    plan.append_seal_slice(program, slice);
    if (slice + 1 == plan.map_slices()) append_attachments(program, context_.image, *actor.image->mm, attaching_room_);
  }));
  TRY(make_aio_rings(actor, materials.null_device));
  parasite::Program close;
  append_close(close, materials);
  TRY(run(actor, close));
  pages_restored_ += plan.bytes() / 4096;
  return {};
}

// Each is made while the one before it runs.
Result<> Cast::run_in_turn(const Actor& actor, std::size_t count, const std::function<void(parasite::Program&, std::size_t)>& append) {
  const parasite::Puppet& leader = actor.threads.front();
  parasite::Program program, next;
  append(program, 0);
  for (std::size_t i = 0; i < count; ++i) {
    std::optional<parasite::Job> job;
    yard_->area().rewind();
    if (!program.empty()) {
      job.emplace(yard_->area(), leader.slot, leader.tid, leader.name, TRY(yard_->area().place(program)));
      job->start();
    }
    next = {};
    if (i + 1 < count) append(next, i + 1);
    if (job) TRY(job->wait(keeper_, parasite::within(std::chrono::minutes(10))));
    std::swap(program, next);
  }
  return {};
}

void Cast::append_close(parasite::Program& program, const Materials& materials) {
  if (materials.descriptors.empty()) return;
  program.call("close what was mapped", SYS_close_range, {0, materials.descriptors.size() - 1, 0});
}

// When all else is mapped: the kernel chooses where a new ring is at first.
Result<> Cast::make_aio_rings(const Actor& actor, int null_device) {
  const parasite::Puppet& leader = actor.threads.front();
  const AioRingOwner owner{[&](const parasite::Program& program) { return yard_->run(leader, program); }, leader.tid, null_device};
  for (const pb::aio_ring_entry& ring : actor.image->mm->aios())
    TRY_OR(restore_aio_ring(owner, ring), std::move(e).object(format("aio ring at {:x}", ring.id())).owner(leader.name));
  return {};
}

bool Cast::same_file(std::uint32_t one, std::uint32_t other) const {
  const pb::file_entry& a = context_.image.files.at(one);
  const pb::file_entry& b = context_.image.files.at(other);
  return one == other || (a.has_reg() && b.has_reg() && a.reg().name() == b.reg().name());
}

// Chunks that go through the scratch memory are the leader's; the others are shared with a helper thread
// where there are enough of them.
Result<> Cast::fill_memory(Actor& actor, const MemoryFiles& fds) {
  const MemoryPlan& plan = *actor.memory;
  const parasite::Puppet& leader = actor.threads.front();
  yard_->area().rewind();
  std::optional<parasite::HelperThread> helper;
  if (plan.chunks().size() >= kWorthAHelper)
    helper.emplace(TRY(parasite::HelperThread::start(
        keeper_, {yard_->area(), helper_slot_, leader.slot, leader.tid, leader.name},
        own_pid_namespace_ ? helper_tid_ : 0)));
  const std::size_t room = yard_->area().program_room() / 4;
  for (std::size_t next = 0; next < plan.chunks().size();) {
    parasite::Program programs[2];
    std::vector<MemoryPlan::Loaded> loaded[2];
    for (; next < plan.chunks().size() && programs[0].size_bytes() < room && programs[1].size_bytes() < room; ++next) {
      const std::size_t who = helper && !plan.needs_scratch(next) ? next % 2 : 0;
      plan.append_fill(programs[who], fds, next, next + 1, loaded[who]);
    }
    yard_->area().rewind();
    parasite::Batch batch(keeper_);
    if (!programs[0].empty()) TRY(batch.add(yard_->area(), leader.slot, leader.tid, leader.name, programs[0]));
    const bool both = !programs[0].empty();
    if (!programs[1].empty()) TRY(helper->add_to(batch, programs[1]));
    TRY(batch.run(std::chrono::minutes(10)));
    for (std::size_t who = 0; who < 2; ++who)
      if (!loaded[who].empty()) TRY(check_sums(actor, loaded[who], batch.placed(who == 1 && both ? 1 : 0)));
  }
  return helper ? helper->dismiss() : Result<>{};
}

// Images of the reference engine have none: there is nothing to compare with then. Chunks that are read in part were
// compared when the images were opened.
std::optional<std::uint64_t> Cast::checksum_of(const Chunk& chunk) const {
  const auto expected = context_.page_checksums(chunk.file);
  if (!chunk.is_whole(context_.image.page_files[chunk.file].bytes) || chunk.checksum_index() >= expected.size()) return std::nullopt;
  return expected[chunk.checksum_index()];
}

Result<> Cast::check_sums(const Actor& actor, std::span<const MemoryPlan::Loaded> loaded, const parasite::Placed& placed) const {
  for (const MemoryPlan::Loaded& each : loaded) {
    const Chunk& chunk = actor.memory->chunks()[each.chunk];
    const auto expected = checksum_of(chunk);
    if (!expected || *expected == static_cast<std::uint64_t>(placed.result(each.checksum))) continue;
    return fail(Error::corrupt(format("checksum of the pages at offset {} is wrong", chunk.offset))
                    .object(context_.page_file_name(chunk.file))
                    .remedy("the file was damaged after the checkpoint"));
  }
  return {};
}

}  // namespace dormouse::engine
