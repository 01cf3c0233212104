#include "images/page_holes.h"

#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>
#include <optional>
#include <set>

#include "base/format.h"
#include "images/checksum.h"
#include "images/reader_state.h"
#include "images/writer_state.h"
#include "kernel/file.h"

namespace dormouse::images {
namespace {

Result<std::uint64_t> sum_of_chunk(int fd, const std::string& name, std::uint64_t chunk, std::uint64_t size) {
  const std::uint64_t at = chunk * kPageChunkBytes;
  std::vector<std::byte> bytes(std::min<std::uint64_t>(kPageChunkBytes, size - at));
  TRY_OR(sys::pread_exactly(fd, bytes, at), std::move(e).object(name));
  return checksum(bytes);
}

std::set<std::uint64_t> touched_chunks(const std::vector<ByteRange>& ranges) {
  std::set<std::uint64_t> chunks;
  for (const ByteRange& range : ranges)
    for (std::uint64_t at = range.start / kPageChunkBytes; at * kPageChunkBytes < range.end; ++at) chunks.insert(at);
  return chunks;
}

struct Work {
  std::string name;
  Fd fd;
  const std::vector<ByteRange>* ranges;
  Manifest::Pages* listed;  // null: not in a manifest
  std::vector<std::uint64_t> sums;
};

Result<Work> begin(int directory, std::uint64_t number, const std::vector<ByteRange>& ranges, Manifest* manifest) {
  Work work{file_name(kPages, number), {}, &ranges, nullptr, {}};
  work.fd = TRY_OR(sys::openat(directory, work.name, O_RDWR | O_NOFOLLOW | O_NONBLOCK), std::move(e).object(work.name));
  if (!manifest) return work;
  const auto found = manifest->page_files.find(work.name);
  if (found == manifest->page_files.end())
    return fail(Error::corrupt("the file is not listed in the manifest").object(work.name));
  work.listed = &found->second;
  work.sums = found->second.chunk_checksums;
  if (work.sums.empty()) return work;
  for (const std::uint64_t chunk : touched_chunks(ranges)) {
    if (chunk >= work.sums.size())
      return fail(Error::corrupt(format("the file has no chunk {}", chunk)).object(work.name));
    if (TRY(sum_of_chunk(work.fd.get(), work.name, chunk, work.listed->size_bytes)) != work.sums[chunk])
      return fail(Error::corrupt(format("the bytes from {} on do not match the manifest's checksum", chunk * kPageChunkBytes))
                      .object(work.name).remedy("copy the checkpoint again from its source"));
  }
  return work;
}

Result<> punch(Work& work, bool keep_sums) {
  for (const ByteRange& range : *work.ranges)
    TRY_OR(sys::fallocate(work.fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, range.start, range.end - range.start),
           std::move(e).object(work.name).remedy("the file system of the images must be able to punch holes"));
  if (!work.listed || work.sums.empty() || !keep_sums) return {};
  for (const std::uint64_t chunk : touched_chunks(*work.ranges))
    work.sums[chunk] = TRY(sum_of_chunk(work.fd.get(), work.name, chunk, work.listed->size_bytes));
  work.listed->chunk_checksums = std::move(work.sums);
  return {};
}

}  // namespace

Result<> punch_holes(int directory, const PageHoles& holes, Dropped why) {
  std::optional<Manifest> manifest = TRY(read_manifest(directory));
  std::vector<Work> works;
  for (const auto& [number, ranges] : holes)
    if (!ranges.empty()) works.push_back(TRY(begin(directory, number, ranges, manifest ? &*manifest : nullptr)));
  if (works.empty()) return {};
  if (manifest) {
    // What was restored stays so; it is the stronger word.
    if (manifest->info.dropped != Dropped::kRestored) manifest->info.dropped = why;
    for (Work& work : works) work.listed->chunk_checksums.clear();
    TRY(write_manifest(directory, *manifest, false));
  }
  // What nobody may read again needs no checksums.
  for (Work& work : works) TRY(punch(work, why != Dropped::kRestored));
  return manifest ? write_manifest(directory, *manifest, false) : Result<>{};
}

}  // namespace dormouse::images
