#include "core/json.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <iterator>
#include <limits>

#include "core/error.h"

namespace cria {
namespace {

// Objects with more members than this have a sorted index.
constexpr std::size_t kSmallObject = 8;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// The length of the well-formed UTF-8 sequence that begins at `p` with a byte above 0x7F; 0: malformed
/// (Unicode, table 3-7).
std::size_t utf8_sequence(const char* p, const char* end) {
  const auto byte = [&](std::ptrdiff_t i) { return static_cast<unsigned char>(p[i]); };
  const unsigned char lead = byte(0);
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || static_cast<std::size_t>(end - p) < length) return 0;
  unsigned char low = 0x80, high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  if (byte(1) < low || byte(1) > high) return 0;
  for (std::size_t i = 2; i < length; i++)
    if ((byte(static_cast<std::ptrdiff_t>(i)) & 0xC0) != 0x80) return 0;
  return length;
}

/// Writes a code point as UTF-8 and returns the end.
char* put_utf8(std::uint32_t c, char* out) {
  if (c < 0x80) {
    *out++ = static_cast<char>(c);
  } else if (c < 0x800) {
    *out++ = static_cast<char>(0xC0 | (c >> 6));
    *out++ = static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    *out++ = static_cast<char>(0xE0 | (c >> 12));
    *out++ = static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    *out++ = static_cast<char>(0x80 | (c & 0x3F));
  } else {
    *out++ = static_cast<char>(0xF0 | (c >> 18));
    *out++ = static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    *out++ = static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    *out++ = static_cast<char>(0x80 | (c & 0x3F));
  }
  return out;
}

}  // namespace

std::string_view name_of(JsonType type) noexcept {
  switch (type) {
    case JsonType::null: return "null";
    case JsonType::boolean: return "a boolean";
    case JsonType::integer: return "an integer";
    case JsonType::number: return "a number";
    case JsonType::string: return "a string";
    case JsonType::array: return "an array";
    case JsonType::object: return "an object";
  }
  return "unknown";
}

/// Reads a document without recursion; open containers are on a stack. Strings are decoded in place: an
/// escape is never shorter than the bytes that it stands for.
class JsonParser {
 public:
  JsonParser(JsonDocument& document, const JsonLimits& limits)
      : document_(document),
        nodes_(document.nodes_),
        limits_(limits),
        begin_(document.text_.data()),
        p_(begin_),
        end_(begin_ + document.text_.size()) {}

  void parse() {
    if (std::string_view(begin_, end_).starts_with("\xEF\xBB\xBF")) p_ += 3;
    skip_space();
    read_value();
    while (!open_.empty()) continue_container();
    skip_space();
    if (p_ != end_) fail("the end of the document");
  }

 private:
  using Node = JsonDocument::Node;

  /// Names the place of `p_` and what stands there.
  [[noreturn]] void fail(std::string_view expected) const {
    if (p_ == end_) fail_with(expected, "the end of the document");
    const auto c = static_cast<unsigned char>(*p_);
    static constexpr char kHex[] = "0123456789abcdef";
    std::string found = "the byte 0x";
    found += {kHex[c >> 4], kHex[c & 15]};
    if (c > 0x20 && c < 0x7F) found = "'" + std::string(1, *p_) + "'";
    fail_with(expected, found);
  }
  [[noreturn]] void fail_with(std::string_view expected, std::string_view found) const {
    const auto line = 1 + std::count(begin_, p_, '\n');
    const char* const line_begin =
        std::find(std::reverse_iterator(p_), std::reverse_iterator(begin_), '\n').base();
    const auto column = 1 + (p_ - line_begin);
    throw Error(ErrorCode::invalid_file,
                document_.name_ + ": line " + std::to_string(line) + ", column " + std::to_string(column) +
                    ": expected " + std::string(expected) + ", found " + std::string(found),
                {{"path", document_.name_},
                 {"line", line},
                 {"column", column},
                 {"expected", std::string(expected)},
                 {"found", std::string(found)}});
  }

  void skip_space() {
    while (p_ != end_ && (*p_ == ' ' || *p_ == '\n' || *p_ == '\r' || *p_ == '\t')) p_++;
  }
  bool take(char c) {
    if (p_ == end_ || *p_ != c) return false;
    p_++;
    return true;
  }
  void expect(std::string_view text) {
    const std::size_t left = static_cast<std::size_t>(end_ - p_);
    if (std::string_view(p_, std::min(left, text.size())) != text) fail("a value");
    p_ += text.size();
  }

  Node& add(JsonType type) {
    Node& node = nodes_.emplace_back();
    node.type = type;
    node.end = static_cast<std::uint32_t>(nodes_.size());
    return node;
  }
  void open(JsonType type) {
    if (open_.size() == limits_.max_depth)
      fail_with("at most " + std::to_string(limits_.max_depth) + " levels of nesting", "another one");
    open_.push_back(static_cast<std::uint32_t>(nodes_.size()));
    add(type).children = {};
    p_++;
  }

  /// A value that is whole, or the beginning of a container.
  void read_value() {
    if (p_ == end_) fail("a value");
    switch (*p_) {
      case '{': return open(JsonType::object);
      case '[': return open(JsonType::array);
      case '"': return read_string();
      case 't': expect("true"); return void(add(JsonType::boolean).boolean = true);
      case 'f': expect("false"); return void(add(JsonType::boolean).boolean = false);
      case 'n': expect("null"); return void(add(JsonType::null));
      default: return read_number();
    }
  }

  /// One more element or member of the innermost container, or its end.
  void continue_container() {
    const std::uint32_t container = open_.back();
    const bool object = nodes_[container].type == JsonType::object;
    skip_space();
    if (take(object ? '}' : ']')) return close(container);
    const bool first = nodes_[container].children.count++ == 0;
    if (!first) {
      if (!take(',')) fail(object ? "',' or '}'" : "',' or ']'");
      skip_space();
    }
    if (object) {
      if (p_ == end_ || *p_ != '"') fail(first ? "a key or '}'" : "a key");
      read_string();
      skip_space();
      if (!take(':')) fail("':'");
      skip_space();
    }
    read_value();
  }

  void close(std::uint32_t container) {
    Node& node = nodes_[container];
    node.end = static_cast<std::uint32_t>(nodes_.size());
    if (node.type == JsonType::object) sort_keys(node, container);
    open_.pop_back();
  }

  /// Refuses equal keys; keeps the order of a large object's.
  void sort_keys(Node& node, std::uint32_t container) {
    keys_.clear();
    for (std::uint32_t i = container + 1; i < node.end; i = nodes_[i + 1].end) keys_.push_back(i);
    const auto text = [&](std::uint32_t key) { return document_.text_of(nodes_[key]); };
    std::ranges::sort(keys_, {}, text);
    if (const auto twin = std::ranges::adjacent_find(keys_, {}, text); twin != keys_.end())
      fail_with("different keys in an object",
                "two members \"" + std::string(text(*twin).substr(0, 80)) + '"');
    if (keys_.size() <= kSmallObject) return;
    node.children.sorted = static_cast<std::uint32_t>(document_.sorted_keys_.size());
    document_.sorted_keys_.insert(document_.sorted_keys_.end(), keys_.begin(), keys_.end());
  }

  void read_number() {
    const char* const start = p_;
    take('-');
    if (p_ == end_ || !is_digit(*p_)) fail(p_ == start ? "a value" : "a digit");
    if (!take('0')) skip_digits();
    bool integer = true;
    if (take('.')) {
      integer = false;
      skip_digits();
    }
    if (p_ != end_ && (*p_ == 'e' || *p_ == 'E')) {
      integer = false;
      p_++;
      if (!take('+')) take('-');
      skip_digits();
    }
    std::int64_t whole = 0;
    if (integer && std::from_chars(start, p_, whole).ec == std::errc()) {
      add(JsonType::integer).integer = whole;
      return;
    }
    double value = 0;
    if (std::from_chars(start, p_, value).ec != std::errc()) {
      p_ = const_cast<char*>(start);
      fail_with("a number within the range of a double", "one beyond it");
    }
    add(JsonType::number).number = value;
  }
  void skip_digits() {
    if (p_ == end_ || !is_digit(*p_)) fail("a digit");
    while (p_ != end_ && is_digit(*p_)) p_++;
  }
  void read_string() {
    char* out = ++p_;
    const auto begin = static_cast<std::uint32_t>(out - begin_);
    for (;;) {
      char* const run = p_;
      while (p_ != end_ && *p_ != '"' && *p_ != '\\' && static_cast<unsigned char>(*p_) >= 0x20 &&
             static_cast<unsigned char>(*p_) < 0x80)
        p_++;
      out = copy(run, p_, out);
      if (p_ == end_) fail("'\"'");
      const auto c = static_cast<unsigned char>(*p_);
      if (c == '"') break;
      if (c == '\\') {
        out = read_escape(out);
      } else if (c < 0x20) {
        fail("a string without control characters");
      } else {
        const std::size_t length = utf8_sequence(p_, end_);
        if (length == 0) fail("UTF-8");
        out = copy(p_, p_ + length, out);
        p_ += length;
      }
    }
    p_++;
    add(JsonType::string).text = {.begin = begin, .size = static_cast<std::uint32_t>(out - begin_) - begin};
  }
  static char* copy(const char* from, const char* end, char* to) {
    const auto n = static_cast<std::size_t>(end - from);
    if (from != to) std::memmove(to, from, n);
    return to + n;
  }

  char* read_escape(char* out) {
    p_++;
    if (p_ == end_) fail("an escape");
    static constexpr std::string_view kNames = "\"\\/bfnrt", kBytes = "\"\\/\b\f\n\r\t";
    if (const std::size_t i = kNames.find(*p_); i != std::string_view::npos) {
      p_++;
      *out = kBytes[i];
      return out + 1;
    }
    if (*p_ != 'u') fail("an escape");
    std::uint32_t c = read_utf16_unit();
    if (c >= 0xDC00 && c <= 0xDFFF) fail_with("a character", "the second half of a surrogate pair alone");
    if (c >= 0xD800 && c <= 0xDBFF) {
      const bool another = end_ - p_ >= 2 && p_[0] == '\\' && p_[1] == 'u';
      if (another) p_++;
      const std::uint32_t low = another ? read_utf16_unit() : 0;
      if (low < 0xDC00 || low > 0xDFFF) fail_with("a surrogate pair", "its first half alone");
      c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    return put_utf8(c, out);
  }
  /// Four hexadecimal digits after the 'u' at `p_`.
  std::uint32_t read_utf16_unit() {
    p_++;
    std::uint32_t unit = 0;
    const char* const digits = p_;
    const char* const four = p_ + std::min<std::ptrdiff_t>(4, end_ - p_);
    const auto [after, error] = std::from_chars(p_, four, unit, 16);
    p_ = const_cast<char*>(after);
    if (error != std::errc() || p_ != four || four - digits != 4) fail("four hexadecimal digits");
    return unit;
  }

  JsonDocument& document_;
  std::vector<Node>& nodes_;
  const JsonLimits& limits_;
  char* const begin_;
  char* p_;
  char* const end_;
  std::vector<std::uint32_t> open_;  // nodes of the containers that have not ended
  std::vector<std::uint32_t> keys_;
};

JsonDocument JsonDocument::parse(std::string text, std::string name, const JsonLimits& limits) {
  // Positions have 32 bits.
  const std::size_t max_bytes =
      std::min<std::size_t>(limits.max_bytes, std::numeric_limits<std::uint32_t>::max());
  if (text.size() > max_bytes) {
    throw Error(ErrorCode::unsupported_file,
                name + ": expected at most " + std::to_string(max_bytes) + " bytes of JSON, found " +
                    std::to_string(text.size()),
                {{"path", name}, {"expected", max_bytes}, {"found", text.size()}});
  }
  JsonDocument document;
  document.name_ = std::move(name);
  document.text_ = std::move(text);
  JsonParser(document, limits).parse();
  return document;
}

JsonType JsonValue::type() const noexcept { return document_->nodes_[node_].type; }

void JsonValue::fail(std::string_view expected, std::string_view found) const {
  const std::string where = path();
  throw Error(ErrorCode::invalid_file,
              document_->name_ + ": " + where + ": expected " + std::string(expected) + ", found " +
                  std::string(found),
              {{"path", document_->name_},
               {"key", where},
               {"expected", std::string(expected)},
               {"found", std::string(found)}});
}

void JsonValue::require(JsonType type) const {
  if (!is(type)) fail(name_of(type), name_of(this->type()));
}

bool JsonValue::as_bool() const {
  require(JsonType::boolean);
  return document_->nodes_[node_].boolean;
}

std::int64_t JsonValue::as_integer() const {
  require(JsonType::integer);
  return document_->nodes_[node_].integer;
}

std::uint64_t JsonValue::as_size() const {
  const std::int64_t value = as_integer();
  if (value < 0) fail("an integer of at least 0", std::to_string(value));
  return static_cast<std::uint64_t>(value);
}

double JsonValue::as_number() const {
  if (is(JsonType::integer)) return static_cast<double>(document_->nodes_[node_].integer);
  require(JsonType::number);
  return document_->nodes_[node_].number;
}

std::string_view JsonValue::as_string() const {
  require(JsonType::string);
  return document_->text_of(document_->nodes_[node_]);
}

std::size_t JsonValue::size() const {
  if (!is(JsonType::array) && !is(JsonType::object)) fail("an array or an object", name_of(type()));
  return document_->nodes_[node_].children.count;
}

JsonRange<JsonValue> JsonValue::elements() const {
  require(JsonType::array);
  return JsonRange<JsonValue>(*this);
}

JsonRange<JsonMember> JsonValue::members() const {
  require(JsonType::object);
  return JsonRange<JsonMember>(*this);
}

std::optional<JsonValue> JsonValue::find(std::string_view key) const {
  require(JsonType::object);
  const JsonDocument& d = *document_;
  const JsonDocument::Node& node = d.nodes_[node_];
  std::uint32_t found = 0;  // the key's node; 0: none
  if (node.children.count > kSmallObject) {
    const auto begin = d.sorted_keys_.begin() + node.children.sorted;
    const auto end = begin + node.children.count;
    const auto at = std::lower_bound(begin, end, key, [&](std::uint32_t other, std::string_view wanted) {
      return d.text_of(d.nodes_[other]) < wanted;
    });
    if (at != end && d.text_of(d.nodes_[*at]) == key) found = *at;
  } else {
    for (std::uint32_t i = node_ + 1; i < node.end && found == 0; i = d.nodes_[i + 1].end)
      if (d.text_of(d.nodes_[i]) == key) found = i;
  }
  if (found == 0 || d.nodes_[found + 1].type == JsonType::null) return std::nullopt;
  return JsonValue(document_, found + 1);
}

JsonValue JsonValue::get(std::string_view key) const {
  if (const auto value = find(key)) return *value;
  fail("a member \"" + std::string(key) + '"', "none");
}

std::string JsonValue::path() const {
  std::string path;
  std::uint32_t at = 0;
  // Descends from the root into the child that holds the node.
  while (at != node_) {
    const bool object = document_->nodes_[at].type == JsonType::object;
    std::uint32_t child = at + 1;
    for (std::size_t i = 0;; i++) {
      const std::uint32_t value = object ? child + 1 : child;
      if (node_ < document_->nodes_[value].end) {
        if (object)
          path.append(path.empty() ? "" : ".")
              .append(document_->text_of(document_->nodes_[child]).substr(0, 80));
        else
          path.append("[").append(std::to_string(i)).append("]");
        at = value;
        break;
      }
      child = document_->nodes_[value].end;
    }
  }
  return path.empty() ? "the document" : path;
}

}  // namespace cria
