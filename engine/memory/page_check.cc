#include "engine/memory/page_check.h"

#include <xxhash.h>

#include <algorithm>
#include <optional>

#include "base/format.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

Result<> check(const RestoreContext& context, const std::vector<PageRun>& pages) {
  std::vector<std::byte> buffer;
  std::optional<std::pair<std::uint32_t, std::uint64_t>> last;
  for (const Chunk& chunk : cut_in_place(pages)) {
    const std::uint64_t file_bytes = context.image.page_files[chunk.file].bytes;
    const std::uint64_t index = chunk.checksum_index();
    const auto sums = context.page_checksums(chunk.file);
    if (index >= sums.size() || chunk.is_whole(file_bytes) || last == std::pair(chunk.file, index)) continue;
    last = {chunk.file, index};
    const std::uint64_t at = index * images::kPageChunkBytes;
    buffer.resize(std::min<std::uint64_t>(images::kPageChunkBytes, file_bytes - at));
    const Fd file = TRY(context.open_page_file(chunk.file));
    TRY_OR(sys::pread_exactly(file.get(), buffer, at), std::move(e).object(context.page_file_name(chunk.file)));
    if (XXH64(buffer.data(), buffer.size(), 0) != sums[index])
      return fail(Error::corrupt(format("checksum of the pages at offset {} is wrong", at))
                      .object(context.page_file_name(chunk.file)).owner("the images")
                      .remedy("the file was damaged after the checkpoint"));
  }
  return {};
}

}  // namespace

Result<> check_shared_chunks(const RestoreContext& context) {
  for (const ImageTask& task : context.image.tasks) TRY(check(context, task.pages));
  for (const auto& [shmid, object] : context.image.shmem) TRY(check(context, object.pages));
  return {};
}

}  // namespace dormouse::engine
