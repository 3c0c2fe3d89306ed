// A small backtracking matcher of regular expressions over code points: the literal meaning of the
// expressions that the splitters implement by hand. Slow, and for trusted expressions only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/unicode.h"

namespace cria::test {

class Regex {
 public:
  explicit Regex(std::string_view expression) {
    for (std::size_t i = 0; i < expression.size(); i += utf8_length(expression[i]))
      source_.push_back(utf8_code_point(expression.data() + i));
    root_ = alternatives(false);
  }

  /// The pieces of `text`: every match, and what lies between two matches.
  std::vector<std::string> split(std::string_view text) const {
    std::vector<std::uint32_t> characters;
    std::vector<std::size_t> offsets;
    for (std::size_t i = 0; i < text.size(); i += utf8_length(text[i])) {
      characters.push_back(utf8_code_point(text.data() + i));
      offsets.push_back(i);
    }
    offsets.push_back(text.size());
    std::vector<std::string> pieces;
    const auto add = [&](std::size_t from, std::size_t to) {
      if (to > from) pieces.emplace_back(text.substr(offsets[from], offsets[to] - offsets[from]));
    };
    std::size_t begin = 0;
    for (std::size_t i = 0; i < characters.size();) {
      std::size_t end = kNone;
      root_->match(characters, i, [&](std::size_t at) {
        end = at;
        return true;
      });
      if (end == kNone) {
        ++i;
        continue;
      }
      add(begin, i);
      add(i, end);
      begin = end;
      i = end > i ? end : i + 1;
    }
    add(begin, characters.size());
    return pieces;
  }

 private:
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  using Text = std::vector<std::uint32_t>;
  using Then = std::function<bool(std::size_t)>;
  struct Node {
    virtual ~Node() = default;
    /// Calls `then` with the end of each way to match at `i`, until it returns true.
    virtual bool match(const Text& text, std::size_t i, const Then& then) const = 0;
  };
  using Pointer = std::unique_ptr<Node>;

  struct Set : Node {
    std::vector<std::function<bool(std::uint32_t)>> any;
    bool negated = false;
    bool has(std::uint32_t c) const {
      for (const auto& one : any)
        if (one(c)) return !negated;
      return negated;
    }
    bool match(const Text& text, std::size_t i, const Then& then) const override {
      return i < text.size() && has(text[i]) && then(i + 1);
    }
  };
  struct Sequence : Node {
    std::vector<Pointer> parts;
    bool from(std::size_t part, const Text& text, std::size_t i, const Then& then) const {
      if (part == parts.size()) return then(i);
      return parts[part]->match(text, i, [&](std::size_t at) { return from(part + 1, text, at, then); });
    }
    bool match(const Text& text, std::size_t i, const Then& then) const override {
      return from(0, text, i, then);
    }
  };
  struct Choice : Node {
    std::vector<Pointer> options;
    bool match(const Text& text, std::size_t i, const Then& then) const override {
      for (const Pointer& option : options)
        if (option->match(text, i, then)) return true;
      return false;
    }
  };
  struct Repeat : Node {
    Pointer what;
    std::size_t least = 0, most = kNone;
    bool possessive = false;
    bool more(std::size_t count, const Text& text, std::size_t i, const Then& then) const {
      if (count < most &&
          what->match(text, i, [&](std::size_t at) { return at > i && more(count + 1, text, at, then); }))
        return true;
      return count >= least && then(i);
    }
    bool match(const Text& text, std::size_t i, const Then& then) const override {
      if (!possessive) return more(0, text, i, then);
      std::size_t end = kNone;
      more(0, text, i, [&](std::size_t at) {
        end = at;
        return true;
      });
      return end != kNone && then(end);
    }
  };
  struct Ahead : Node {
    Pointer what;
    bool wanted = true;
    bool match(const Text& text, std::size_t i, const Then& then) const override {
      return what->match(text, i, [](std::size_t) { return true; }) == wanted && then(i);
    }
  };
  struct End : Node {
    bool match(const Text& text, std::size_t i, const Then& then) const override {
      return i == text.size() && then(i);
    }
  };

  bool next_is(std::string_view ascii) const {
    for (std::size_t k = 0; k < ascii.size(); ++k)
      if (at_ + k >= source_.size() || source_[at_ + k] != static_cast<unsigned char>(ascii[k])) return false;
    return true;
  }
  bool take(std::string_view ascii) {
    if (!next_is(ascii)) return false;
    at_ += ascii.size();
    return true;
  }

  Pointer alternatives(bool fold) {
    auto choice = std::make_unique<Choice>();
    do {
      auto sequence = std::make_unique<Sequence>();
      while (at_ < source_.size() && !next_is("|") && !next_is(")"))
        sequence->parts.push_back(repeated(fold));
      choice->options.push_back(std::move(sequence));
    } while (take("|"));
    return choice;
  }

  Pointer repeated(bool fold) {
    Pointer what = atom(fold);
    std::size_t least = 1, most = 1;
    if (take("?")) {
      least = 0;
    } else if (take("*")) {
      least = 0;
      most = kNone;
    } else if (take("+")) {
      most = kNone;
    } else if (take("{")) {
      least = most = source_[at_++] - '0';
      if (take(",")) most = source_[at_++] - '0';
      take("}");
    } else {
      return what;
    }
    auto repeat = std::make_unique<Repeat>();
    repeat->what = std::move(what);
    repeat->least = least;
    repeat->most = most;
    repeat->possessive = take("+");
    return repeat;
  }

  Pointer atom(bool fold) {
    if (take("(?=") || next_is("(?!")) {
      auto ahead = std::make_unique<Ahead>();
      ahead->wanted = !take("(?!");
      ahead->what = alternatives(fold);
      take(")");
      return ahead;
    }
    if (next_is("(")) {
      const bool folds = take("(?i:");
      if (!folds && !take("(?:")) take("(");
      Pointer group = alternatives(fold || folds);
      take(")");
      return group;
    }
    if (take("$")) return std::make_unique<End>();
    auto set = std::make_unique<Set>();
    if (!take("[")) {
      member(*set, fold);
      return set;
    }
    set->negated = take("^");
    while (!take("]")) member(*set, fold);
    return set;
  }

  /// Adds one character, range or class to a set.
  void member(Set& set, bool fold) {
    std::uint32_t first = source_[at_++];
    if (first == '\\') {
      const std::uint32_t escape = source_[at_++];
      if (const CharSet classes = class_set(escape); classes != 0) {
        const bool not_space = escape == 'S';
        set.any.emplace_back([=](std::uint32_t c) { return contains(classes, class_of(c)) != not_space; });
        return;
      }
      first = escape == 'r' ? '\r' : escape == 'n' ? '\n' : escape;
    }
    std::uint32_t last = first;
    if (next_is("-") && at_ + 1 < source_.size() && source_[at_ + 1] != ']') {
      last = source_[at_ + 1];
      at_ += 2;
    }
    set.any.emplace_back([=](std::uint32_t c) {
      if (c >= first && c <= last) return true;
      if (!fold) return false;
      // Simple case folding: the long s is an s.
      const std::uint32_t folded = c == 0x17f ? 's' : c >= 'A' && c <= 'Z' ? c + 32 : c;
      return folded >= first && folded <= last;
    });
  }

  CharSet class_set(std::uint32_t escape) {
    if (escape == 's' || escape == 'S') return kSpaces;
    if (escape == 'd') return char_set(CharClass::digit);
    if (escape != 'p') return 0;
    std::string name;
    for (take("{"); !take("}");) name += static_cast<char>(source_[at_++]);
    if (name == "L") return kLetters;
    if (name == "N") return kNumbers;
    if (name == "M") return kMarks;
    if (name == "P") return kPunctuation;
    if (name == "S") return kSymbols;
    if (name == "Lu" || name == "Lt") return char_set(CharClass::upper);
    if (name == "Ll") return char_set(CharClass::lower);
    if (name == "Lm" || name == "Lo") return char_set(CharClass::other_letter);
    return 0;
  }

  Text source_;
  std::size_t at_ = 0;
  Pointer root_;
};

}  // namespace cria::test
