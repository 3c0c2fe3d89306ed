// A strict reader of JSON (RFC 8259): untrusted text -> a checked document in memory. Model folders and
// tokenizers describe themselves in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cria {

enum class JsonType : std::uint8_t {
  null,
  boolean,
  integer,  // without fraction and exponent, and within 64 signed bits
  number,   // any other
  string,
  array,
  object,
};

/// "null", "a boolean", "an integer", "a number", "a string", "an array", "an object".
std::string_view name_of(JsonType type) noexcept;

class JsonDocument;
template <typename Item>
class JsonRange;
struct JsonMember;

/// A value within a document, which must outlive it. Cheap to copy. An accessor that finds another type than
/// its own throws ERR_INVALID_FILE with the document's name, the path of the value, what was expected and
/// what was found.
class JsonValue {
 public:
  JsonType type() const noexcept;
  bool is(JsonType type) const noexcept { return this->type() == type; }

  bool as_bool() const;
  std::int64_t as_integer() const;
  /// An integer that is not negative.
  std::uint64_t as_size() const;
  /// An integer or any other number. Finite: a number beyond the range of a double is refused on reading.
  double as_number() const;
  std::string_view as_string() const;

  /// The number of elements of an array, or members of an object.
  std::size_t size() const;
  /// Of an array, in order.
  JsonRange<JsonValue> elements() const;
  /// Of an object, in order; no two keys are equal.
  JsonRange<JsonMember> members() const;
  /// The member of an object. Nothing if it is missing, and if it is null, which configuration files write
  /// for "not set". Logarithmic in the size of a large object.
  std::optional<JsonValue> find(std::string_view key) const;
  /// The member of an object. Throws if it is missing or null.
  JsonValue get(std::string_view key) const;

  /// Where the value stands: `rope_scaling.factor`, `merges[3][0]`, or `the document`.
  std::string path() const;
  /// Throws ERR_INVALID_FILE: "<name>: <path>: expected <expected>, found <found>".
  [[noreturn]] void fail(std::string_view expected, std::string_view found) const;

 private:
  friend class JsonDocument;
  template <typename Item>
  friend class JsonRange;
  JsonValue(const JsonDocument* document, std::uint32_t node) : document_(document), node_(node) {}
  void require(JsonType type) const;

  const JsonDocument* document_;
  std::uint32_t node_;
};

struct JsonMember {
  std::string_view key;
  JsonValue value;
};

struct JsonLimits {
  std::size_t max_bytes = std::size_t{256} << 20;
  std::size_t max_depth = 100;
};

/// A document owns its text; strings in it point there.
class JsonDocument {
 public:
  /// `name` is for messages, such as a path. A byte-order mark is skipped. Errors: ERR_INVALID_FILE with line
  /// and column: no JSON, no UTF-8, a lone surrogate, a key given twice, too deep, a number out of range;
  /// ERR_UNSUPPORTED_FILE: larger than the limit.
  static JsonDocument parse(std::string text, std::string name, const JsonLimits& limits = {});

  JsonDocument(JsonDocument&&) = default;
  JsonDocument& operator=(JsonDocument&&) = default;

  JsonValue root() const noexcept { return {this, 0}; }
  const std::string& name() const noexcept { return name_; }

 private:
  friend class JsonParser;
  friend class JsonValue;
  template <typename Item>
  friend class JsonRange;

  struct Text {
    std::uint32_t begin, size;
  };
  struct Children {
    std::uint32_t count;
    std::uint32_t sorted;  // objects of more than kSmallObject members: where its keys begin in sorted_keys_
  };
  /// A value, or the key of the member that follows.
  struct Node {
    JsonType type = JsonType::null;
    std::uint32_t end = 0;  // one past its last descendant: its next sibling
    union {
      std::int64_t integer = 0;
      double number;
      bool boolean;
      Text text;
      Children children;
    };
  };
  JsonDocument() = default;
  std::string_view text_of(const Node& node) const noexcept {
    return std::string_view(text_).substr(node.text.begin, node.text.size);
  }

  std::string name_;
  std::string text_;
  std::vector<Node> nodes_;                 // in order of the text; a container stands before its children
  std::vector<std::uint32_t> sorted_keys_;  // key nodes of large objects, sorted
};

/// Elements or members, for range-based loops.
template <typename Item>
class JsonRange {
 public:
  class Iterator {
   public:
    using difference_type = std::ptrdiff_t;
    using value_type = Item;
    Iterator() = default;
    Item operator*() const {
      if constexpr (kMembers)
        return {.key = document_->text_of(document_->nodes_[node_]),
                .value = JsonValue(document_, node_ + 1)};
      else
        return JsonValue(document_, node_);
    }
    Iterator& operator++() {
      node_ = document_->nodes_[kMembers ? node_ + 1 : node_].end;
      return *this;
    }
    Iterator operator++(int) {
      const Iterator before = *this;
      ++*this;
      return before;
    }
    bool operator==(const Iterator& other) const { return node_ == other.node_; }

   private:
    friend class JsonRange;
    static constexpr bool kMembers = std::is_same_v<Item, JsonMember>;
    Iterator(const JsonDocument* document, std::uint32_t node) : document_(document), node_(node) {}
    const JsonDocument* document_ = nullptr;
    std::uint32_t node_ = 0;
  };

  Iterator begin() const { return {container_.document_, container_.node_ + 1}; }
  Iterator end() const { return {container_.document_, container_.document_->nodes_[container_.node_].end}; }
  std::size_t size() const { return container_.size(); }

 private:
  friend class JsonValue;
  explicit JsonRange(JsonValue container) : container_(container) {}
  JsonValue container_;
};

}  // namespace cria
