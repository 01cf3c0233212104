#include "images/manifest.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "base/format.h"
#include "base/text.h"
#include "images/checksum.h"

namespace dormouse::images {

namespace {

using Json = nlohmann::ordered_json;

// The end of the file has one form only, byte for byte, so that no bit of it is outside the seal's reach:
// kSealOpen, 16 digits, kSealClose.
constexpr std::string_view kSealOpen = ",\n \"seal\": \"";
constexpr std::string_view kSealClose = "\"\n}\n";
constexpr std::size_t kDigits = 16;
constexpr std::size_t kSealBytes = kSealOpen.size() + kDigits + kSealClose.size();

Error damaged(std::string reason) {
  return Error::corrupt(std::move(reason))
      .object(kManifestName)
      .remedy("copy the checkpoint again from its source");
}

std::string_view dropped_word(Dropped dropped) {
  return dropped == Dropped::kReplaced ? "replaced" : "restored";
}

Json info_json(const ManifestInfo& info) {
  Json json = {{"tasks", info.tasks}, {"threads", info.threads}, {"pages", info.pages},
               {"root_comm", info.root_comm}};
  if (!info.generation.empty()) json["generation"] = info.generation;
  if (!info.parent.empty()) json["parent"] = info.parent;
  if (info.pre_dump) json["pre_dump"] = true;
  if (info.dropped != Dropped::kNothing) json["dropped"] = dropped_word(info.dropped);
  if (!info.extra.empty()) json["extra"] = info.extra;
  return json;
}

// The checksums of all chunks in one string: a checkpoint of gigabytes has thousands.
std::string digits_of(const std::vector<std::uint64_t>& checksums) {
  std::string digits;
  digits.reserve(checksums.size() * kDigits);
  for (const std::uint64_t value : checksums) digits += checksum_text(value);
  return digits;
}

// --- reading ------------------------------------------------------------------------------------

// Members are fetched by these, which answer a wrong type with a named failure and never throw.
Result<const Json*> member(const Json& object, const char* name) {
  if (const auto found = object.find(name); found != object.end()) return &*found;
  return fail(damaged(format("member '{}' is missing", name)));
}
template <class T = std::uint64_t>
Result<T> number(const Json& object, const char* name) {
  const Json* value = TRY(member(object, name));
  if (!value->is_number_unsigned() || !std::in_range<T>(value->get<std::uint64_t>()))
    return fail(damaged(format("member '{}' is not a number that fits", name)));
  return value->get<T>();
}
Result<std::string> text(const Json& object, const char* name) {
  const Json* value = TRY(member(object, name));
  if (!value->is_string()) return fail(damaged(format("member '{}' is not a string", name)));
  return value->get<std::string>();
}

Result<std::vector<std::uint64_t>> checksums(const Json& object) {
  const std::string digits = TRY(text(object, "xxh64"));
  if (digits.size() % kDigits != 0) return fail(damaged("a checksum is cut short"));
  std::vector<std::uint64_t> values(digits.size() / kDigits);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto value =
        parse_number<std::uint64_t>(std::string_view(digits).substr(i * kDigits, kDigits), 16);
    if (!value) return fail(damaged("a checksum is not hexadecimal"));
    values[i] = *value;
  }
  return values;
}

// Members that came later; who wrote none of them has nothing to say about chains.
Result<> read_chain(const Json& object, ManifestInfo& info) {
  if (object.contains("generation")) info.generation = TRY(text(object, "generation"));
  if (object.contains("parent")) info.parent = TRY(text(object, "parent"));
  if (object.contains("pre_dump")) {
    const Json* flag = TRY(member(object, "pre_dump"));
    if (!flag->is_boolean()) return fail(damaged("member 'pre_dump' is neither true nor false"));
    info.pre_dump = flag->get<bool>();
  }
  if (!object.contains("dropped")) return {};
  const std::string word = TRY(text(object, "dropped"));
  for (const Dropped known : {Dropped::kReplaced, Dropped::kRestored})
    if (word == dropped_word(known)) info.dropped = known;
  if (info.dropped == Dropped::kNothing) return fail(damaged(format("member 'dropped' says '{}'", word)));
  return {};
}

Result<ManifestInfo> read_info(const Json& object) {
  ManifestInfo info;
  info.tasks = TRY(number<std::uint32_t>(object, "tasks"));
  info.threads = TRY(number<std::uint32_t>(object, "threads"));
  info.pages = TRY(number(object, "pages"));
  info.root_comm = TRY(text(object, "root_comm"));
  TRY(read_chain(object, info));
  if (!object.contains("extra")) return info;
  const Json* extra = TRY(member(object, "extra"));
  for (const auto& item : extra->items()) {
    if (!item.value().is_string()) return fail(damaged("a value of 'extra' is not a string"));
    info.extra[item.key()] = item.value().get<std::string>();
  }
  return info;
}

Result<> read_file(const Json& object, Manifest& manifest) {
  std::string name = TRY(text(object, "name"));
  if (!is_image_name(name)) return fail(damaged(format("'{}' is not the name of an image", name)));
  if (manifest.files.contains(name) || manifest.page_files.contains(name))
    return fail(damaged(format("'{}' is listed twice", name)));
  const std::uint64_t size = TRY(number(object, "size"));
  std::vector<std::uint64_t> values = TRY(checksums(object));
  if (!object.contains("chunk")) {
    if (values.size() != 1) return fail(damaged(format("'{}' has no checksum", name)));
    manifest.files[std::move(name)] = {size, values[0]};
    return {};
  }
  if (TRY(number(object, "chunk")) != kPageChunkBytes)
    return fail(damaged(format("'{}' has an unknown chunk size", name)));
  if (!values.empty() && values.size() != chunk_count(size))
    return fail(damaged(format("'{}' has {} checksums for {} bytes", name, values.size(), size)));
  manifest.page_files[std::move(name)] = {size, std::move(values)};
  return {};
}

Result<Manifest> read_manifest(const Json& json) {
  if (!json.is_object()) return fail(damaged("not a JSON object"));
  const std::uint64_t form = TRY(number(json, "format"));
  if (form != kManifestFormat)
    return fail(Error::unsupported(format("manifest format {}; this engine knows {}", form, kManifestFormat))
                    .object(kManifestName)
                    .remedy("restore with the engine that made the checkpoint, or a newer one"));
  Manifest manifest;
  manifest.engine_version = TRY(text(json, "engine"));
  const Json* info = TRY(member(json, "info"));
  manifest.info = TRY(read_info(*info));
  const Json* files = TRY(member(json, "files"));
  if (!files->is_array()) return fail(damaged("member 'files' is not a list"));
  for (const Json& file : *files) TRY(read_file(file, manifest));
  return manifest;
}

Result<> check_seal(std::string_view text) {
  const char* const unfinished = "the file does not end with a seal: it was not written to the end";
  if (text.size() < kSealBytes || !text.ends_with(kSealClose)) return fail(damaged(unfinished));
  const std::string_view covered = text.substr(0, text.size() - kSealBytes);
  std::string_view seal = text.substr(covered.size());
  if (!consume_prefix(seal, kSealOpen)) return fail(damaged(unfinished));
  if (seal.substr(0, kDigits) != checksum_text(checksum(covered)))
    return fail(damaged("the seal does not match the content: the file is damaged"));
  return {};
}

}  // namespace

bool is_image_name(std::string_view name) {
  if (name.empty() || name.size() > 255 || name[0] == '.' || name == kManifestName) return false;
  for (const char c : name)
    if (c <= ' ' || c == '/' || c == '\\' || c == 0x7f) return false;  // also all of 8 bits: char is signed
  return true;
}

std::uint64_t chunk_count(std::uint64_t size_bytes) {
  return size_bytes / kPageChunkBytes + (size_bytes % kPageChunkBytes != 0);
}

namespace {

// One line each. They are thousands: as objects of a JSON document they would take longer than their files.
std::string files_text(const Manifest& manifest) {
  std::string text;
  const auto add = [&](const std::string& name, std::uint64_t size_bytes, std::string_view chunk, std::string_view digits) {
    text += format("{}\n  {{\"name\": {}, \"size\": {}{}, \"xxh64\": \"{}\"}}", text.empty() ? "" : ",", Json(name).dump(), size_bytes,
                   chunk, digits);
  };
  const std::string chunk = format(", \"chunk\": {}", kPageChunkBytes);
  for (const auto& [name, file] : manifest.files) add(name, file.size_bytes, "", checksum_text(file.checksum));
  for (const auto& [name, file] : manifest.page_files) add(name, file.size_bytes, chunk, digits_of(file.chunk_checksums));
  return text;
}

}  // namespace

std::string manifest_text(const Manifest& manifest) {
  const Json json = {{"format", kManifestFormat}, {"engine", manifest.engine_version}, {"info", info_json(manifest.info)}};
  // A task's name may be any bytes; JSON is UTF-8, so what is not becomes the replacement character.
  std::string text = json.dump(1, ' ', false, Json::error_handler_t::replace);
  text.resize(text.size() - 2);  // "\n}"
  text += format(",\n \"files\": [{}\n ]", files_text(manifest));
  const std::uint64_t seal = checksum(text);
  text += kSealOpen;
  text += checksum_text(seal);
  text += kSealClose;
  return text;
}

Result<Manifest> parse_manifest(std::string_view text) try {
  TRY(check_seal(text));
  return read_manifest(Json::parse(text));
} catch (const std::exception& problem) {  // nlohmann/json: syntax errors; also too little memory
  return fail(damaged(problem.what()));
}

}  // namespace dormouse::images
