#include "images/chain.h"

#include <algorithm>

#include "base/format.h"
#include "images/manifest.h"
#include "kernel/file.h"

namespace dormouse::images {

std::string Chain::name(std::size_t level, std::string_view file) {
  std::string text;
  for (std::size_t i = 0; i < level; ++i) text += "parent/";
  return text.append(file);
}

Result<Chain> Chain::open(int directory) {
  Chain chain;
  TRY(chain.add(Fd(), directory));
  return chain;
}

Result<> Chain::add(Fd owned, int fd) {
  Level level{std::move(owned), fd, nullptr, {}};
  const auto stat = TRY(sys::fstat(fd));
  level.identity = {stat.st_dev, stat.st_ino};
  const std::string name = Chain::name(levels_.size(), "");
  for (const Level& known : levels_)
    if (known.identity == level.identity)
      return fail(Error::corrupt("leads back to images that are part of the chain already")
                      .object(name.substr(0, name.size() - 1)).owner("the images")
                      .remedy("dump into a directory of its own, with --prev-images-dir for the one before"));
  level.images = std::make_unique<InputDirectory>(TRY(InputDirectory::open(fd)));
  if (!levels_.empty()) TRY(check_descent(levels_.back(), level));
  if (const ManifestInfo* info = level.images->info(); info && info->dropped == Dropped::kRestored)
    return fail(Error::corrupt("its pages were dropped when it was restored (--auto-dedup)")
                    .object(name + kManifestName).owner("the images").remedy("such images serve once; restore a copy"));
  TRY(level.images->verify());
  levels_.push_back(std::move(level));
  return {};
}

// Images without a manifest say nothing about who their parents are.
Result<> Chain::check_descent(const Level& child, const Level& parent) const {
  const ManifestInfo* info = child.images->info();
  if (!info || info->parent.empty()) return {};
  const std::string where = name(levels_.size(), "");
  const auto wrong = [&](std::string reason, std::string remedy) {
    return fail(Error::corrupt(std::move(reason)).object(where.substr(0, where.size() - 1)).owner("the images")
                    .remedy(std::move(remedy)));
  };
  const ManifestInfo* found = parent.images->info();
  if (!found)
    return wrong(format("has no {}, so nobody can tell whether it is generation {}, which the images build on", kManifestName,
                        info->parent),
                 "bring back the directory that was there at the dump");
  if (found->generation != info->parent)
    return wrong(format("is generation {}, but the images build on {}",
                        found->generation.empty() ? "(none)" : found->generation, info->parent),
                 "bring back the directory that was there at the dump");
  return {};
}

Result<const InputDirectory*> Chain::reach(std::size_t level) {
  while (levels_.size() <= level) {
    Fd parent = TRY_OR(levels_.back().images->open_parent(), std::move(e).owner("the images"));
    const std::string where = name(levels_.size(), "");
    if (!parent)
      return fail(Error::corrupt("is missing, but some pages are said to be there")
                      .object(where.substr(0, where.size() - 1)).owner("the images")
                      .remedy("bring back the link to the directory that was given as --prev-images-dir"));
    const int fd = parent.get();
    TRY(add(std::move(parent), fd));
  }
  return levels_[level].images.get();
}

}  // namespace dormouse::images
