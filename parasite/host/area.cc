#include "parasite/host/area.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "base/format.h"

extern "C" {
extern const std::byte dormouse_blob_begin[];  // NOLINT(readability-identifier-naming): assembler symbols
extern const std::byte dormouse_blob_end[];
}

namespace dormouse::parasite {

std::span<const std::byte> interpreter_image() {
  return {dormouse_blob_begin, static_cast<std::size_t>(dormouse_blob_end - dormouse_blob_begin)};
}

std::size_t Area::size_for(std::uint32_t threads, std::size_t program_bytes) {
  const std::size_t bytes = slot_offset(threads) + program_bytes + threads * kProgramBytesPerThread;
  return (bytes + kPage - 1) / kPage * kPage;
}

void Area::let_go_of_pages() { (void)::madvise(mapping_.data(), mapping_.size(), MADV_DONTNEED); }

Result<Area> Area::adopt(int memory, std::uint64_t address, std::uint32_t threads, std::size_t size) {
  Area area;
  area.mapping_ = TRY(sys::Mapping::map(memory, size, PROT_READ | PROT_WRITE, MAP_SHARED));
  area.address_ = address;
  area.slots_ = threads;
  area.next_ = area.kept_ = slot_offset(threads);
  const auto image = interpreter_image();
  std::memcpy(area.mapping_.data() + kPage, image.data(), image.size());
  area.header() = {address, size, threads, blob::kProtocolVersion, 0, 0, 0, spins_for(threads), 0, 0};
  return area;
}

blob::Cell& Area::cell(std::uint32_t slot) {
  return *reinterpret_cast<blob::Cell*>(mapping_.data() + slot_offset(slot));
}

Result<Placed> Area::place(const Program& program) {
  const std::size_t bytes = (program.size_bytes() + 15) / 16 * 16;
  if (bytes > program_room())
    return fail(Error::conflict(format("a program of {} bytes does not fit into {}", bytes, program_room()),
                                ENOSPC));
  const Placed placed(&program, mapping_.data() + next_, address_ + next_);
  program.place(mapping_.bytes().subspan(next_, program.size_bytes()), placed.address());
  next_ += bytes;
  return placed;
}

}  // namespace dormouse::parasite
