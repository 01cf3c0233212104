#include "oci/json.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "base/format.h"

namespace dormouse::oci {

using Json = nlohmann::json;

struct Document::Tree {
  Json json;
  std::string file, remedy;
};

namespace {

const Json& json_of(const void* value) { return *static_cast<const Json*>(value); }

std::string member_place(const std::string& place, std::string_view key) {
  return place.empty() ? std::string(key) : place + "." + std::string(key);
}

std::string_view article(std::string_view type) {
  return type.starts_with('a') || type.starts_with('o') ? "an" : "a";
}

// The library's message begins with its own tag and repeats the position: "[json.exception.…] parse
// error at line 1, column 2: syntax error while parsing value - invalid literal; last read: 'x'".
std::string_view plain(std::string_view message) {
  if (const auto at = message.find("] "); at != std::string_view::npos) message.remove_prefix(at + 2);
  return message;
}

}  // namespace

Document::Document(std::unique_ptr<Tree> tree) : tree_(std::move(tree)) {}
Document::Document(Document&&) noexcept = default;
Document& Document::operator=(Document&&) noexcept = default;
Document::~Document() = default;

Result<Document> Document::parse(std::string_view text, std::string file, std::string remedy) {
  if (text.size() > kMaxJsonBytes)
    return fail(Error::bad_option(format("{} bytes is more than any such file needs", text.size()))
                    .object(std::move(file))
                    .remedy(std::move(remedy)));
  auto tree = std::make_unique<Tree>();
  try {
    tree->json = Json::parse(text);
  } catch (const Json::exception& e) {
    return fail(Error::bad_option(format("not JSON: {}", plain(e.what())))
                    .object(std::move(file))
                    .remedy(std::move(remedy)));
  }
  tree->file = std::move(file);
  tree->remedy = std::move(remedy);
  return Document(std::move(tree));
}

Node Document::root() const { return {tree_.get(), &tree_->json, ""}; }

Error Node::wrong(std::string_view reason) const {
  auto text = place_.empty() ? std::string(reason) : format("{}: {}", place_, reason);
  return Error::bad_option(std::move(text)).object(tree_->file).remedy(tree_->remedy);
}

Error Node::expected(std::string_view type) const {
  const std::string_view found = json_of(value_).type_name();
  return wrong(format("{} {} was expected, this is {} {}", article(type), type, article(found), found));
}

Result<> Node::get(std::string& into) const {
  const Json& json = json_of(value_);
  if (!json.is_string()) return fail(expected("string"));
  const auto& text = json.get_ref<const std::string&>();
  if (text.find('\0') != std::string::npos) return fail(wrong("the string holds a NUL character"));
  into = text;
  return {};
}

Result<> Node::get(bool& into) const {
  const Json& json = json_of(value_);
  if (!json.is_boolean()) return fail(expected("boolean"));
  into = json.get<bool>();
  return {};
}

Result<> Node::get(std::int64_t& into) const {
  const Json& json = json_of(value_);
  if (!json.is_number()) return fail(expected("whole number"));
  if (!json.is_number_integer()) return fail(wrong("a whole number was expected, this has a fraction or is too large"));
  constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (json.is_number_unsigned() && json.get<std::uint64_t>() > kMax)
    return fail(wrong("the number does not fit into 64 bits with sign"));
  into = json.get<std::int64_t>();
  return {};
}

Result<> Node::get(std::uint64_t& into) const {
  const Json& json = json_of(value_);
  if (!json.is_number_unsigned()) {
    if (json.is_number_integer()) return fail(wrong("a number below zero makes no sense here"));
    std::int64_t ignored = 0;
    return get(ignored);
  }
  into = json.get<std::uint64_t>();
  return {};
}

Result<> Node::get(std::uint32_t& into) const {
  std::uint64_t wide = 0;
  TRY(get(wide));
  if (wide > std::numeric_limits<std::uint32_t>::max()) return fail(wrong("the number does not fit into 32 bits"));
  into = static_cast<std::uint32_t>(wide);
  return {};
}

Result<> Node::get(std::int32_t& into) const {
  std::uint64_t wide = 0;
  TRY(get(wide));
  if (wide > std::numeric_limits<std::int32_t>::max()) return fail(wrong("the number does not fit into 31 bits"));
  into = static_cast<std::int32_t>(wide);
  return {};
}

Result<> Node::get(std::vector<std::string>& into) const {
  into.clear();
  for (const auto all = TRY(elements()); const Node& element : all) TRY(element.get(into.emplace_back()));
  return {};
}

Result<> Node::get(std::map<std::string, std::string>& into) const {
  const Json& json = json_of(value_);
  if (!json.is_object()) return fail(expected("object"));
  into.clear();
  for (const auto& [key, value] : json.items())
    TRY(Node(tree_, &value, member_place(place_, key)).get(into[key]));
  return {};
}

Result<std::optional<Node>> Node::find(std::string_view key) const {
  const Json& json = json_of(value_);
  if (!json.is_object()) return fail(expected("object"));
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return std::nullopt;
  return Node(tree_, &*found, member_place(place_, key));
}

Result<Node> Node::member(std::string_view key) const {
  auto found = TRY(find(key));
  if (!found) return fail(Node(tree_, value_, member_place(place_, key)).wrong("is missing"));
  return *std::move(found);
}

Result<std::vector<Node>> Node::elements() const {
  const Json& json = json_of(value_);
  if (!json.is_array()) return fail(expected("array"));
  std::vector<Node> nodes;
  for (std::size_t i = 0; i < json.size(); ++i) nodes.push_back(Node(tree_, &json[i], format("{}[{}]", place_, i)));
  return nodes;
}

Result<std::vector<Node>> Node::list(std::string_view key) const {
  const auto found = TRY(find(key));
  return found ? found->elements() : std::vector<Node>{};
}

namespace {

// Bytes of the well-formed UTF-8 character that `text` begins with; 0 if it begins with none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  const std::size_t length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  if (length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  const bool overlong = (first == 0xe0 && byte(1) < 0xa0) || (first == 0xf0 && byte(1) < 0x90);
  const bool surrogate = first == 0xed && byte(1) >= 0xa0;
  const bool beyond = first == 0xf4 && byte(1) >= 0x90;
  return overlong || surrogate || beyond ? 0 : length;
}

}  // namespace

std::string json_quoted(std::string_view text) {
  std::string quoted = "\"";
  while (!text.empty()) {
    const char c = text[0];
    const std::size_t length = utf8_length(text);
    if (length == 0)
      quoted += "\\ufffd";
    else if (c == '"' || c == '\\')
      (quoted += '\\') += c;
    else if (c == '\n')
      quoted += "\\n";
    else if (static_cast<unsigned char>(c) < 0x20)
      quoted += format("\\u{:04x}", static_cast<unsigned>(c));
    else
      quoted += text.substr(0, length);
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return quoted + '"';
}

std::string json_array(const std::vector<std::string>& values) {
  std::string text = "[";
  for (const auto& value : values) {
    if (text.size() > 1) text += ',';
    text += json_quoted(value);
  }
  return text + "]";
}

void ObjectWriter::begin(std::string_view key) {
  if (text_.size() > 1) text_ += ',';
  text_ += json_quoted(key);
  text_ += ':';
}

ObjectWriter& ObjectWriter::add(std::string_view key, std::string_view value) {
  begin(key);
  text_ += json_quoted(value);
  return *this;
}
ObjectWriter& ObjectWriter::add(std::string_view key, std::int64_t value) {
  begin(key);
  text_ += std::to_string(value);
  return *this;
}
ObjectWriter& ObjectWriter::add(std::string_view key, std::uint64_t value) {
  begin(key);
  text_ += std::to_string(value);
  return *this;
}
ObjectWriter& ObjectWriter::add(std::string_view key, bool value) {
  begin(key);
  text_ += value ? "true" : "false";
  return *this;
}
ObjectWriter& ObjectWriter::add(std::string_view key, const std::vector<std::string>& values) {
  begin(key);
  text_ += json_array(values);
  return *this;
}
ObjectWriter& ObjectWriter::add(std::string_view key, const std::map<std::string, std::string>& values) {
  begin(key);
  ObjectWriter inner;
  for (const auto& [name, value] : values) inner.add(name, value);
  text_ += inner.text();
  return *this;
}

}  // namespace dormouse::oci
