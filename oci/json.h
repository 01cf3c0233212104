// A JSON document read with a purpose: every value knows its place, so that a wrong one is reported as
// "FILE: linux.namespaces[2].type: a string was expected, this is a number".
//
// The library behind it is seen by json.cc alone: it is heavy to compile, and it throws.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace dormouse::oci {

// A text longer than this is no description of a container.
inline constexpr std::size_t kMaxJsonBytes = 16u << 20;

class Node;

class Document {
 public:
  // `file` names the text in errors; `remedy` is what a person is told to do about a wrong value.
  static Result<Document> parse(std::string_view text, std::string file, std::string remedy);
  Document(Document&&) noexcept;
  Document& operator=(Document&&) noexcept;
  ~Document();

  Node root() const;  // valid as long as the document

 private:
  friend class Node;
  struct Tree;
  explicit Document(std::unique_ptr<Tree> tree);
  std::unique_ptr<Tree> tree_;
};

// A value in a document. A member that is null counts as absent, since encoders of Go write both.
class Node {
 public:
  // The value itself. An error names its place, what was expected and what stands there. A string with
  // a NUL character is refused: the kernel would see only its beginning.
  [[nodiscard]] Result<> get(std::string& into) const;
  [[nodiscard]] Result<> get(bool& into) const;
  [[nodiscard]] Result<> get(std::int64_t& into) const;
  [[nodiscard]] Result<> get(std::uint64_t& into) const;
  [[nodiscard]] Result<> get(std::uint32_t& into) const;
  [[nodiscard]] Result<> get(std::int32_t& into) const;  // a pid: none is below zero
  [[nodiscard]] Result<> get(std::vector<std::string>& into) const;
  [[nodiscard]] Result<> get(std::map<std::string, std::string>& into) const;
  template <class T>
  [[nodiscard]] Result<> get(std::optional<T>& into) const {
    return get(into.emplace());
  }

  // Members of an object, elements of an array; a value of another type is an error.
  Result<std::optional<Node>> find(std::string_view key) const;
  Result<Node> member(std::string_view key) const;
  Result<std::vector<Node>> elements() const;

  // `read` leaves `into` as it is if the member is absent; `need` does not accept that.
  template <class T>
  [[nodiscard]] Result<> read(std::string_view key, T& into) const {
    const auto found = TRY(find(key));
    return found ? found->get(into) : Result<>{};
  }
  template <class T>
  [[nodiscard]] Result<> need(std::string_view key, T& into) const {
    return TRY(member(key)).get(into);
  }
  // The elements of an array member, or none if it is absent.
  Result<std::vector<Node>> list(std::string_view key) const;

  // An error at this place, for rules beyond the type.
  Error wrong(std::string_view reason) const;
  const std::string& place() const { return place_; }

 private:
  friend class Document;
  Node(const Document::Tree* tree, const void* value, std::string place)
      : tree_(tree), value_(value), place_(std::move(place)) {}
  Error expected(std::string_view type) const;

  const Document::Tree* tree_;
  const void* value_;
  std::string place_;
};

// Writes one object, members in the order of the calls.
class ObjectWriter {
 public:
  ObjectWriter& add(std::string_view key, std::string_view value);
  ObjectWriter& add(std::string_view key, const char* value) { return add(key, std::string_view(value)); }
  ObjectWriter& add(std::string_view key, const std::string& value) { return add(key, std::string_view(value)); }
  ObjectWriter& add(std::string_view key, std::int64_t value);
  ObjectWriter& add(std::string_view key, std::uint64_t value);
  ObjectWriter& add(std::string_view key, bool value);
  ObjectWriter& add(std::string_view key, const std::vector<std::string>& values);
  ObjectWriter& add(std::string_view key, const std::map<std::string, std::string>& values);
  std::string text() const { return text_ + "}"; }

 private:
  void begin(std::string_view key);
  std::string text_ = "{";
};

// The text as a JSON string, quotes included. Bytes that are no UTF-8 become U+FFFD.
std::string json_quoted(std::string_view text);
std::string json_array(const std::vector<std::string>& values);

}  // namespace dormouse::oci
