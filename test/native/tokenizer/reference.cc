// The encoders as literal implementations of their definitions, at quadratic cost.
#include <optional>

#include "tokenizer/fixtures.h"

namespace cria::test {
namespace {

std::size_t character_length(std::string_view text, std::size_t i) { return utf8_length(text[i]); }

struct Symbol {
  std::string text;
  bool frozen = false;
};

void resegment(const std::string& text, const VocabularySource& source,
               const std::map<std::string, TokenId>& pieces,
               const std::map<std::string, std::pair<std::string, std::string>>& halves,
               std::vector<TokenId>& out) {
  const auto found = pieces.find(text);
  if (found != pieces.end() && source.types[found->second] != TokenType::unused) {
    out.push_back(found->second);
  } else if (const auto cut = halves.find(text); found != pieces.end() && cut != halves.end()) {
    resegment(cut->second.first, source, pieces, halves, out);
    resegment(cut->second.second, source, pieces, halves, out);
  } else {
    for (char c : text) out.push_back(3 + static_cast<unsigned char>(c));
  }
}

/// tiktoken's pattern for Llama 3 on the characters of a text, alternative by alternative.
class SplitPattern {
 public:
  explicit SplitPattern(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); i += character_length(text, i)) {
      characters_.push_back(utf8_code_point(text.data() + i));
      offsets_.push_back(i);
    }
    offsets_.push_back(text.size());
  }

  std::size_t size() const { return characters_.size(); }
  /// The byte offset of character `i`, or of the end of the text.
  std::size_t offset(std::size_t i) const { return offsets_[i]; }

  /// The length of the match at character `i`, in characters.
  std::size_t match(std::size_t i) const {
    for (std::string_view s : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
      if (folds_to(i, s)) return s.size();
    }
    if (!newline(i) && !is(i, CharClass::letter) && !is(i, CharClass::number) && letters(i + 1))
      return 1 + letters(i + 1);
    if (letters(i)) return letters(i);
    if (is(i, CharClass::number))
      return 1 + is(i + 1, CharClass::number) +
             (is(i + 1, CharClass::number) && is(i + 2, CharClass::number));
    if (characters_[i] == ' ' && others(i + 1)) return 1 + others(i + 1) + newlines(i + 1 + others(i + 1));
    if (others(i)) return others(i) + newlines(i + others(i));
    for (std::size_t k = spaces(i) + 1; k-- > 0;) {  // \s* backtracks until [\r\n]+ matches
      if (newlines(i + k)) return k + newlines(i + k);
    }
    for (std::size_t k = spaces(i); k > 0; --k) {  // \s+ backtracks until no \S follows
      if (i + k == size() || is(i + k, CharClass::space)) return k;
    }
    return spaces(i);
  }

 private:
  bool is(std::size_t i, CharClass cls) const { return i < size() && class_of(characters_[i]) == cls; }
  bool newline(std::size_t i) const {
    return i < size() && (characters_[i] == '\r' || characters_[i] == '\n');
  }
  /// Case-insensitive comparison under simple case folding, in which the long s (U+017F) is an s.
  bool folds_to(std::size_t i, std::string_view lower) const {
    for (std::size_t k = 0; k < lower.size(); ++k) {
      if (i + k >= size()) return false;
      std::uint32_t x = characters_[i + k];
      if (x >= 'A' && x <= 'Z') x += 32;
      if (x == 0x17f) x = 's';
      if (x != static_cast<unsigned char>(lower[k])) return false;
    }
    return true;
  }

  // Lengths of the runs at `i`.
  std::size_t run(std::size_t i, CharClass cls) const {
    std::size_t length = 0;
    while (is(i + length, cls)) ++length;
    return length;
  }
  std::size_t letters(std::size_t i) const { return run(i, CharClass::letter); }
  std::size_t others(std::size_t i) const { return run(i, CharClass::other); }
  std::size_t spaces(std::size_t i) const { return run(i, CharClass::space); }
  std::size_t newlines(std::size_t i) const {
    std::size_t length = 0;
    while (newline(i + length)) ++length;
    return length;
  }

  std::vector<std::uint32_t> characters_;
  std::vector<std::size_t> offsets_;  // of each character, and of the end
};

}  // namespace

std::vector<TokenId> reference_spm(const VocabularySource& source, std::string_view text) {
  if (text.empty()) return {};
  std::map<std::string, TokenId> pieces;
  std::vector<std::string> user_defined;
  for (TokenId id = 0; id < source.tokens.size(); ++id) {
    const TokenType type = source.types[id];
    if (type == TokenType::normal || type == TokenType::unused || type == TokenType::user_defined) {
      pieces[source.tokens[id]] = id;
    }
    if (type == TokenType::user_defined) user_defined.push_back(source.tokens[id]);
  }
  std::string normalized(source.add_space_prefix.value_or(true) ? 1 : 0, ' ');
  normalized = replace_all(normalized.append(text), " ", kSpaceSymbol);

  std::vector<Symbol> symbols;
  for (std::size_t i = 0; i < normalized.size();) {
    std::size_t length = 0;
    for (const std::string& u : user_defined) {
      if (u.size() > length && normalized.compare(i, u.size(), u) == 0) length = u.size();
    }
    const bool frozen = length > 0;
    if (!frozen) length = character_length(normalized, i);
    symbols.push_back({normalized.substr(i, length), frozen});
    i += length;
  }

  std::map<std::string, std::pair<std::string, std::string>> halves;
  const auto merged = [&](std::size_t i) -> std::optional<TokenId> {  // the token of symbols i and i + 1
    if (i + 1 >= symbols.size() || symbols[i].frozen || symbols[i + 1].frozen) return std::nullopt;
    const auto found = pieces.find(symbols[i].text + symbols[i + 1].text);
    if (found == pieces.end()) return std::nullopt;
    return found->second;
  };
  const auto note = [&](std::size_t i) {
    if (const auto id = merged(i); id && source.types[*id] == TokenType::unused) {
      halves[source.tokens[*id]] = {symbols[i].text, symbols[i + 1].text};
    }
  };
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) note(i);
  for (;;) {
    std::size_t best = symbols.size();
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto id = merged(i);
      if (id && (best == symbols.size() || source.scores[*id] > source.scores[*merged(best)])) best = i;
    }
    if (best == symbols.size()) break;
    symbols[best].text += symbols[best + 1].text;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    if (best > 0) note(best - 1);
    note(best);
  }

  std::vector<TokenId> ids;
  for (const Symbol& symbol : symbols) resegment(symbol.text, source, pieces, halves, ids);
  return ids;
}

std::vector<std::string> reference_split(std::string_view text) {
  const SplitPattern pattern(text);
  std::vector<std::string> pieces;
  for (std::size_t i = 0; i < pattern.size();) {
    const std::size_t length = pattern.match(i);
    pieces.emplace_back(text.substr(pattern.offset(i), pattern.offset(i + length) - pattern.offset(i)));
    i += length;
  }
  return pieces;
}

std::vector<TokenId> reference_bpe(const VocabularySource& source, std::string_view text) {
  std::map<std::string, TokenId> ids_of;  // by the token in the byte alphabet
  for (TokenId id = 0; id < source.tokens.size(); ++id) {
    if (source.types[id] == TokenType::normal) ids_of[source.tokens[id]] = id;
  }
  std::vector<TokenId> ids;
  for (const std::string& piece : reference_split(text)) {
    if (const auto whole = ids_of.find(byte_alphabet(piece)); whole != ids_of.end()) {
      ids.push_back(whole->second);
      continue;
    }
    std::vector<std::string> parts;
    for (char c : piece) parts.push_back(byte_alphabet(std::string(1, c)));
    for (;;) {
      std::size_t best = parts.size();
      TokenId best_rank = 0;
      for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto found = ids_of.find(parts[i] + parts[i + 1]);
        if (found != ids_of.end() && (best == parts.size() || found->second < best_rank)) {
          best = i;
          best_rank = found->second;
        }
      }
      if (best == parts.size()) break;
      parts[best] += parts[best + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    for (const std::string& part : parts) ids.push_back(ids_of.at(part));
  }
  return ids;
}

}  // namespace cria::test
