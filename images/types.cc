#include "images/types.h"

#include "base/format.h"

namespace dormouse::images {

std::string file_name(const ImageType& type, std::optional<std::uint64_t> number) {
  std::string name(type.name);
  const std::size_t hole = name.find('{');
  if (hole == std::string::npos) return name;
  const std::uint64_t n = number.value_or(0);
  const bool hexadecimal = name[hole + 1] == 'x';
  return name.replace(hole, hexadecimal ? 3 : 2, hexadecimal ? format("{:x}", n) : format("{}", n));
}

}  // namespace dormouse::images
