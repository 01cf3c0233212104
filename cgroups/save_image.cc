#include "cgroups/save.h"
#include "images/directory.h"
#include "images/schema/cgroups.pb.h"

namespace dormouse::cgroups {

Result<> SavedCgroups::write(images::OutputDirectory& out) {
  const auto record = TRY(collect());
  auto file = TRY(out.create(images::kCgroup));
  if (record) TRY(file.append(*record));
  return file.finish();
}

}  // namespace dormouse::cgroups
