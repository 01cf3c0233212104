// epoll(7): what it watches, by descriptor number of the task that asked.
//
// An epoll instance knows a watched file by the pair of open file and number, and asks some kinds of file
// (signalfd) on behalf of the task that adds them. So restore opens an empty instance here, and each
// task's own program adds what epoll_watches() says once its descriptors are in place.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "engine/files/file_kind.h"

namespace dormouse::engine {

struct Image;

class EpollFile final : public FileKind {
 public:
  std::string_view name() const override { return "epoll"; }
  int type() const override;
  bool matches(const OpenFile& file) const override;
  Result<> save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) override;
  Result<Fd> open(const pb::file_entry& entry, FilesOpener& opener) override;
};

// One epoll_ctl(epoll, EPOLL_CTL_ADD, target, {events, data}).
struct EpollWatch {
  int epoll = -1, target = -1;  // descriptor numbers
  std::uint32_t events = 0;
  std::uint64_t data = 0;
};
// What one task of each descriptor table has to add, in this order; by files_id. A watch of an instance
// that several tables share is in one of them. Pure.
std::map<std::uint32_t, std::vector<EpollWatch>> epoll_watches(const Image& image);

}  // namespace dormouse::engine
