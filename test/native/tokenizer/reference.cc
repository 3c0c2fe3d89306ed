// The encoders as literal implementations of their definitions, at quadratic cost.
#include <optional>

#include "tokenizer/fixtures.h"
#include "tokenizer/regex.h"

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

std::vector<std::string> reference_split(const VocabularySource& source, std::string_view text) {
  std::vector<std::string> pieces;
  if (!text.empty()) pieces.emplace_back(text);
  for (const std::string_view expression : split_expressions(source)) {
    const Regex regex(expression);
    std::vector<std::string> next;
    for (const std::string& piece : pieces)
      for (std::string& part : regex.split(piece)) next.push_back(std::move(part));
    pieces = std::move(next);
  }
  return pieces;
}

std::vector<TokenId> reference_bpe(const VocabularySource& source, std::string_view text) {
  std::map<std::string, TokenId> ids_of;  // by the token in the byte alphabet
  for (TokenId id = 0; id < source.tokens.size(); ++id) {
    if (source.types[id] == TokenType::normal) ids_of[source.tokens[id]] = id;
  }
  std::vector<TokenId> ids;
  for (const std::string& piece : reference_split(source, text)) {
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
