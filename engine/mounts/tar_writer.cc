#include "engine/mounts/tar_writer.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/format.h"

namespace dormouse::engine {

namespace {

constexpr std::size_t kBlock = 512;
constexpr std::size_t kRangesInHeader = 4;
constexpr std::size_t kRangesInExtension = 21;

struct RangeField {
  char offset[12];
  char size[12];
};

// One block of 512 bytes: POSIX.1-1988 up to `prefix`'s place, GNU's own layout from there.
struct Header {
  char name[100];
  char mode[8];
  char uid[8];
  char gid[8];
  char size[12];
  char modified[12];
  char checksum[8];
  char type;
  char link[100];
  char magic[8];
  char user[32];
  char group[32];
  char device_major[8];
  char device_minor[8];
  char accessed[12];
  char changed[12];
  char offset[12];
  char long_names[4];
  char unused;
  RangeField ranges[kRangesInHeader];
  char more_ranges;
  char real_size[12];
  char pad[17];
};
static_assert(sizeof(Header) == kBlock);

struct Extension {
  RangeField ranges[kRangesInExtension];
  char more_ranges;
  char pad[7];
};
static_assert(sizeof(Extension) == kBlock);

// Octal with a final zero; numbers that do not fit (and negative ones) in base 256, marked by the top bit.
template <std::size_t N>
void put_number(char (&field)[N], std::int64_t value) {
  if (value >= 0 && value < std::int64_t{1} << 3 * (N - 1)) {
    field[N - 1] = 0;
    for (std::size_t i = N - 1; i-- > 0; value >>= 3) field[i] = static_cast<char>('0' + (value & 7));
    return;
  }
  const char fill = value < 0 ? '\xff' : '\0';
  for (std::size_t i = N; i-- > 0;) {
    field[i] = N - 1 - i < sizeof value ? static_cast<char>(value & 0xff) : fill;
    value >>= 8;
  }
  field[0] = static_cast<char>(value < 0 ? 0xff : (field[0] | 0x80));
}

void put_range(RangeField& field, const DataRange& range) {
  put_number(field.offset, static_cast<std::int64_t>(range.offset));
  put_number(field.size, static_cast<std::int64_t>(range.size));
}

template <std::size_t N>
void put_text(char (&field)[N], std::string_view text) {
  std::memcpy(field, text.data(), std::min(N, text.size()));
}

std::string_view seal(Header& header) {
  put_text(header.magic, std::string_view("ustar  \0", 8));
  std::ranges::fill(header.checksum, ' ');
  const std::string_view bytes(reinterpret_cast<const char*>(&header), sizeof header);
  unsigned sum = 0;
  for (const unsigned char c : bytes) sum += c;
  std::ranges::copy(format("{:06o}", sum), header.checksum);
  header.checksum[6] = 0;
  return bytes;
}

char type_of(const TarMember& member) {
  if (!member.same_as.empty()) return '1';
  switch (member.mode & S_IFMT) {
    case S_IFDIR: return '5';
    case S_IFLNK: return '2';
    case S_IFCHR: return '3';
    case S_IFBLK: return '4';
    case S_IFIFO: return '6';
    default: return '0';
  }
}

// "LENGTH KEY=VALUE\n", where the length counts itself.
void add_record(std::string& records, std::string_view key, std::string_view value) {
  const std::size_t rest = key.size() + value.size() + 3;
  std::size_t length = rest + 1;
  while (std::to_string(length).size() + rest != length) length = std::to_string(length).size() + rest;
  records += format("{} {}=", length, key);
  records += value;
  records += '\n';
}

std::string pax_records(const TarMember& member) {
  std::string records;
  if (member.modified.tv_nsec)
    add_record(records, "mtime", format("{}.{:09}", member.modified.tv_sec, member.modified.tv_nsec));
  for (const auto& [name, value] : member.attributes)
    add_record(records, "SCHILY.xattr." + name, value);
  return records;
}

}  // namespace

Result<> TarWriter::put(std::string_view text) {
  return sink_(std::as_bytes(std::span(text.data(), text.size())));
}

Result<> TarWriter::pad(std::uint64_t size) {
  static constexpr std::array<char, kBlock> kZeros{};
  const std::size_t missing = (kBlock - size % kBlock) % kBlock;
  return missing ? put({kZeros.data(), missing}) : Result<>{};
}

Result<> TarWriter::add_special(char type, std::string_view name, std::string_view payload) {
  Header header{};
  put_text(header.name, name);
  put_number(header.mode, 0644);
  put_number(header.uid, 0);
  put_number(header.gid, 0);
  put_number(header.size, static_cast<std::int64_t>(payload.size()));
  put_number(header.modified, 0);
  header.type = type;
  TRY(put(seal(header)));
  TRY(put(payload));
  return pad(payload.size());
}

Result<> TarWriter::add_sparse_map(std::span<const DataRange> ranges) {
  while (!ranges.empty()) {
    Extension extension{};
    const auto here = ranges.first(std::min(ranges.size(), kRangesInExtension));
    for (std::size_t i = 0; i < here.size(); ++i) put_range(extension.ranges[i], here[i]);
    ranges = ranges.subspan(here.size());
    extension.more_ranges = !ranges.empty();
    TRY(put({reinterpret_cast<const char*>(&extension), sizeof extension}));
  }
  return {};
}

Result<> TarWriter::add(const TarMember& member) {
  // The final zero counts, as GNU tar has it.
  const auto with_zero = [](const std::string& text) {
    return std::string_view(text.c_str(), text.size() + 1);
  };
  const std::string& link = member.same_as.empty() ? member.link : member.same_as;
  if (const std::string records = pax_records(member); !records.empty())
    TRY(add_special('x', "././@PaxHeader", records));
  if (link.size() > sizeof(Header::link)) TRY(add_special('K', "././@LongLink", with_zero(link)));
  if (member.path.size() > sizeof(Header::name))
    TRY(add_special('L', "././@LongLink", with_zero(member.path)));

  Header header{};
  put_text(header.name, member.path);
  put_text(header.link, link);
  put_number(header.mode, member.mode & 07777);
  put_number(header.uid, member.uid);
  put_number(header.gid, member.gid);
  put_number(header.modified, member.modified.tv_sec);
  header.type = type_of(member);
  if (header.type == '3' || header.type == '4') {
    put_number(header.device_major, ::gnu_dev_major(member.device));
    put_number(header.device_minor, ::gnu_dev_minor(member.device));
  }

  content_size_ = 0;
  std::vector<DataRange> ranges;
  if (header.type == '0') {
    for (const auto& range : member.data) content_size_ += range.size;
    if (content_size_ != member.size) {
      header.type = 'S';
      ranges = member.data;
      // An empty range at the end tells where a hole at the end ends.
      if (ranges.empty() || ranges.back().offset + ranges.back().size != member.size)
        ranges.push_back({member.size, 0});
      put_number(header.real_size, static_cast<std::int64_t>(member.size));
      for (std::size_t i = 0; i < std::min(ranges.size(), kRangesInHeader); ++i)
        put_range(header.ranges[i], ranges[i]);
      header.more_ranges = ranges.size() > kRangesInHeader;
    }
  }
  put_number(header.size, static_cast<std::int64_t>(content_size_));
  content_left_ = content_size_;
  TRY(put(seal(header)));
  if (ranges.size() > kRangesInHeader)
    TRY(add_sparse_map(std::span(ranges).subspan(kRangesInHeader)));
  return {};
}

Result<> TarWriter::content(std::span<const std::byte> bytes) {
  TRY(sink_(bytes));
  content_left_ -= bytes.size();
  return content_left_ ? Result<>{} : pad(content_size_);
}

Result<> TarWriter::finish() {
  static constexpr std::array<char, 2 * kBlock> kEnd{};
  return put({kEnd.data(), kEnd.size()});
}

}  // namespace dormouse::engine
