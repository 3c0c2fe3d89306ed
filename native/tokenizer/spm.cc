#include "tokenizer/spm.h"

#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "tokenizer/unicode.h"

namespace cria {
namespace {

std::string_view character_at(std::string_view text, std::size_t i) noexcept {
  return text.substr(i, utf8_length(text[i]));
}

/// SentencePiece's remove_extra_whitespaces (src/normalizer.cc): appends the text without spaces at its start
/// and end, one for those side by side. Returns what it appended, less the prefix.
std::string_view append_single_spaces(std::string_view text, bool prefix, std::string& out) {
  if (prefix) out += ' ';
  const std::size_t begin = out.size();
  bool after_space = true;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool space = text[i] == ' ';
    if (!space || !after_space) out += text[i];
    after_space = space;
  }
  while (out.size() > begin && out.back() == ' ') out.pop_back();
  const std::string rest = out.substr(begin);
  out.resize(begin);
  append_with_spaces(rest, out);
  return std::string_view(out).substr(begin);
}

}  // namespace

SpmEncoder::SpmEncoder(const Vocabulary& vocabulary, const VocabularySource& source)
    : vocabulary_(vocabulary),
      prefix_before_space_(source.prefix_before_space),
      remove_extra_whitespaces_(source.remove_extra_whitespaces),
      pairs_(source.merges.empty() ? vocabulary.size() * 2 : source.merges.size()),
      neighbours_(vocabulary.size()) {
  std::vector<std::pair<std::string_view, TokenId>> user_defined;
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    if (vocabulary.type(id) == TokenType::user_defined) user_defined.emplace_back(vocabulary.bytes(id), id);
  }
  user_defined_ = SpellingMatcher(std::move(user_defined));
  for (unsigned byte = 0; byte < 256; ++byte) {
    if (vocabulary.byte_token(static_cast<unsigned char>(byte)) == kNoToken) lacks_bytes_ = true;
  }
  rank_pieces();
  add_characters();
  if (source.merges.empty()) {
    add_pairs();
  } else {
    add_merges(source.merges);
  }
}

/// Whether merging can produce this piece. (User-defined pieces are matched beforehand and never merge.)
bool SpmEncoder::is_mergeable(TokenId id) const noexcept {
  const TokenType type = vocabulary_.type(id);
  if (type != TokenType::normal && type != TokenType::unused) return false;
  return vocabulary_.find_piece(vocabulary_.bytes(id)) == id;
}

void SpmEncoder::rank_pieces() {
  std::vector<TokenId> order(vocabulary_.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](TokenId a, TokenId b) { return vocabulary_.score(a) > vocabulary_.score(b); });
  rank_.resize(order.size());
  std::uint32_t rank = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && vocabulary_.score(order[i]) != vocabulary_.score(order[i - 1])) ++rank;
    rank_[order[i]] = rank;
  }
}

std::uint32_t SpmEncoder::symbol_for(std::string_view character) {
  const std::uint32_t code_point = utf8_code_point(character.data());
  std::uint32_t symbol = symbol_of_.get(code_point);
  if (symbol == kNoSymbol) {
    // Part of a piece but not a piece itself: it may merge, since SentencePiece only looks at the spelling of
    // the union.
    symbol = vocabulary_.size() + part_characters_.size();
    part_characters_.add(character);
    symbol_of_.set(code_point, symbol);
  }
  return symbol;
}

void SpmEncoder::add_characters() {
  for (TokenId id = 0; id < vocabulary_.size(); ++id) {
    const std::string_view piece = vocabulary_.bytes(id);
    // An unused piece of one character may merge as a part, but alone it becomes bytes and never its token.
    if (vocabulary_.type(id) != TokenType::normal || !is_mergeable(id)) continue;
    if (piece.size() == utf8_length(piece[0])) symbol_of_.set(utf8_code_point(piece.data()), id);
  }
}

std::uint32_t SpmEncoder::find_half(std::string_view half, std::uint64_t hash) const noexcept {
  if (half.size() == utf8_length(half[0])) return symbol_of_.get(utf8_code_point(half.data()));
  const TokenId id = vocabulary_.pieces().find(vocabulary_.all_bytes(), half, hash);
  return id != StringIndex::kAbsent && vocabulary_.type(id) != TokenType::user_defined ? id : kNoSymbol;
}

/// Notes which characters are side by side in a piece that merging can give.
void SpmEncoder::add_neighbours(TokenId id) {
  const std::string_view piece = vocabulary_.bytes(id);
  if (vocabulary_.type(id) == TokenType::unused) has_unused_ = true;
  std::uint32_t previous = kNoSymbol;
  bool after_word = false;  // a character other than a space came before
  for (std::size_t i = 0; i < piece.size(); i += utf8_length(piece[i])) {
    const std::uint32_t symbol = symbol_for(character_at(piece, i));
    if (previous != kNoSymbol) neighbours_.insert(previous, symbol, {0, 0});
    previous = symbol;
    if (piece[i] == ' ' && after_word) words_independent_ = false;
    after_word = after_word || piece[i] != ' ';
  }
}

void SpmEncoder::add_pairs() {
  PrefixHash hash;
  for (TokenId id = 0; id < vocabulary_.size(); ++id) {
    const std::string_view piece = vocabulary_.bytes(id);
    if (!is_mergeable(id) || piece.size() == utf8_length(piece[0])) continue;
    add_neighbours(id);
    hash.assign(piece);
    for (std::size_t cut = utf8_length(piece[0]); cut < piece.size(); cut += utf8_length(piece[cut])) {
      const std::uint32_t left = find_half(piece.substr(0, cut), hash.range(0, cut));
      if (left == kNoSymbol) continue;
      const std::uint32_t right = find_half(piece.substr(cut), hash.range(cut, piece.size()));
      if (right == kNoSymbol) continue;
      pairs_.insert(left, right, {rank_[id], id});
      if (pairs_.size() > kMaxMergePairs) {
        throw_invalid_vocabulary("the pieces have too many merges");
      }
    }
  }
}

void SpmEncoder::add_merges(const std::vector<std::string>& merges) {
  if (merges.size() > kMaxMergePairs) throw_invalid_vocabulary("the pieces have too many merges");
  const auto find = [&](std::size_t i, std::string_view piece) {
    const std::uint32_t symbol = piece.empty() ? kNoSymbol : find_half(piece, PrefixHash::of(piece));
    if (symbol == kNoSymbol)
      throw_invalid_vocabulary("merge " + std::to_string(i) + " contains a piece that is not a token");
    return symbol;
  };
  // A list converted from a SentencePiece model holds all the ways to split a piece, one after the other.
  // Ties between them are broken from the left there, so consecutive merges with the same result share a
  // rank.
  std::string spaced, left, right;
  TokenId id = kNoToken;
  std::uint32_t rank = 0;
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const std::string_view merge = merges[i];
    const std::size_t space = merge.find(' ', 1);
    if (space == merge.npos || !is_well_formed_utf8(merge))
      throw_invalid_vocabulary("merge " + std::to_string(i) + " is not a pair of pieces");
    left.clear();
    right.clear();
    append_with_spaces(merge.substr(0, space), left);
    append_with_spaces(merge.substr(space + 1), right);
    spaced.assign(left).append(right);
    const std::optional<TokenId> merged = vocabulary_.find_piece(spaced);
    if (!merged || vocabulary_.type(*merged) == TokenType::user_defined) {
      throw_invalid_vocabulary("merge " + std::to_string(i) + " gives a piece that is not a token");
    }
    if (id != *merged) {
      id = *merged;
      rank = static_cast<std::uint32_t>(i);
      add_neighbours(id);
    }
    pairs_.insert(find(i, left), find(i, right), {rank, id});
  }
}

void SpmEncoder::encode(std::string_view text, bool prefix, EncodeRun& run) const {
  const std::size_t before = run.out.size();
  encode_spaced(text, prefix, run);
  if (!lacks_bytes_ || !vocabulary_.unk()) return;
  // Unknown characters side by side are one unknown token.
  const auto repeated = [unk = *vocabulary_.unk()](TokenId a, TokenId b) { return a == unk && b == unk; };
  run.out.erase(std::unique(run.out.begin() + static_cast<std::ptrdiff_t>(before), run.out.end(), repeated),
                run.out.end());
}

void SpmEncoder::encode_spaced(std::string_view text, bool prefix, EncodeRun& run) const {
  // SentencePiece replaces spaces by U+2581. Here U+2581 becomes a space, one byte instead of three; in
  // either case both are the same symbol.
  std::string& spaced = run.scratch.text;
  spaced.clear();
  if (remove_extra_whitespaces_) {
    text = append_single_spaces(text, prefix, spaced);
    if (text.empty()) return;
  } else {
    const bool spaced_already = text.starts_with(' ') || text.starts_with(kSpaceSymbol);
    if (prefix && (prefix_before_space_ || !spaced_already)) spaced += ' ';
    append_with_spaces(text, spaced);
  }

  const std::string_view all = spaced;
  if (has_unused_) return encode_with_unused(all, run);
  if (user_defined_.empty()) return encode_words(all, run);
  std::size_t begin = 0;
  while (begin < all.size()) {
    const SpellingMatcher::Match match = user_defined_.find(all, begin);
    encode_words(all.substr(begin, match.begin - begin), run);
    if (match.length > 0) run.out.push_back(match.id);
    begin = match.begin + match.length;
  }
}

void SpmEncoder::encode_words(std::string_view text, EncodeRun& run) const {
  if (!words_independent_) {
    if (!text.empty()) encode_word(text, run);
    return;
  }
  while (!text.empty()) {
    std::size_t end = text.find_first_not_of(' ');
    end = end == text.npos ? end : text.find(' ', end);
    const std::string_view word = text.substr(0, end);
    encode_word(word, run);
    text.remove_prefix(word.size());
  }
}

void SpmEncoder::encode_word(std::string_view word, EncodeRun& run) const {
  if (word.size() <= PieceCache::kMaxBytes) return encode_short(word, run);
  // Cut between characters that are not side by side in any piece. (Scripts without spaces have few pieces of
  // several characters.)
  std::size_t begin = 0;
  std::uint32_t previous = kNoSymbol;
  for (std::size_t i = 0; i < word.size(); i += utf8_length(word[i])) {
    run.poll.tick();
    const std::uint32_t symbol = symbol_of_.get(utf8_code_point(word.data() + i));
    const bool joined = symbol != kNoSymbol && previous != kNoSymbol && neighbours_.find(previous, symbol);
    if (i > 0 && !joined) {
      encode_short(word.substr(begin, i - begin), run);
      begin = i;
    }
    previous = symbol;
  }
  encode_short(word.substr(begin), run);
}

void SpmEncoder::encode_short(std::string_view word, EncodeRun& run) const {
  run.poll.tick();
  if (word.size() > PieceCache::kMaxBytes) return merge_run(word, run);
  const PieceCache::Key key = PieceCache::key_of(word);
  if (run.scratch.cache.append(key, run.out)) return;
  const std::size_t before = run.out.size();
  merge_run(word, run);
  run.scratch.cache.put(key, run.out.data() + before, run.out.size() - before);
}

/// Appends the characters of `text` as symbols; `base` is its offset in the text that emit() will get.
void SpmEncoder::push_symbols(std::string_view text, std::size_t base,
                              std::vector<std::uint32_t>& symbols) const {
  for (std::size_t i = 0; i < text.size(); i += utf8_length(text[i])) {
    const std::uint32_t symbol = symbol_of_.get(utf8_code_point(text.data() + i));
    symbols.push_back(symbol != kNoSymbol ? symbol : static_cast<std::uint32_t>(base + i) | kUnmergeable);
  }
}

void SpmEncoder::merge_run(std::string_view text, EncodeRun& run) const {
  std::vector<std::uint32_t>& symbols = run.scratch.merge.symbols;
  symbols.clear();
  push_symbols(text, 0, symbols);
  merge_symbols(pairs_, run.scratch.merge, run.poll);
  for (std::uint32_t symbol : symbols) emit(symbol, text, run.out);
}

/// SentencePiece splits an unused piece into the two halves it was last seen as anywhere in the text. The
/// result depends on the whole text, so there are no words and no cache. (Llama's vocabularies have no unused
/// pieces.)
void SpmEncoder::encode_with_unused(std::string_view text, EncodeRun& run) const {
  std::vector<std::uint32_t>& symbols = run.scratch.merge.symbols;
  symbols.clear();
  for (std::size_t begin = 0; begin < text.size();) {
    const SpellingMatcher::Match match = user_defined_.find(text, begin);
    push_symbols(text.substr(begin, match.begin - begin), begin, symbols);
    if (match.length > 0) symbols.push_back(match.id | kUnmergeable | kFrozen);
    begin = match.begin + match.length;
  }
  const auto is_unused = [&](std::uint32_t symbol) {
    return symbol < vocabulary_.size() && vocabulary_.type(symbol) == TokenType::unused;
  };
  std::unordered_map<TokenId, std::pair<std::uint32_t, std::uint32_t>> halves;
  merge_symbols_observed(pairs_, run.scratch.merge, run.poll,
                         [&](std::uint32_t left, std::uint32_t right, TokenId id) {
                           if (is_unused(id)) halves[id] = {left, right};
                         });
  std::vector<std::uint32_t> stack;
  for (std::uint32_t symbol : symbols) {
    stack.assign(1, symbol);
    while (!stack.empty()) {
      run.poll.tick();
      const std::uint32_t top = stack.back();
      stack.pop_back();
      if (is_unused(top)) {
        const auto [left, right] = halves.at(top);
        stack.push_back(right);
        stack.push_back(left);
      } else {
        emit(top, text, run.out);
      }
    }
  }
}

void SpmEncoder::emit(std::uint32_t symbol, std::string_view text, std::vector<TokenId>& out) const {
  if (symbol < vocabulary_.size()) {
    out.push_back(symbol);
  } else if (!(symbol & kUnmergeable)) {
    emit_bytes(part_characters_[symbol - vocabulary_.size()], out);
  } else if (symbol & kFrozen) {
    out.push_back(symbol & ~(kUnmergeable | kFrozen));
  } else {
    emit_bytes(character_at(text, symbol & ~kUnmergeable), out);
  }
}

void SpmEncoder::emit_bytes(std::string_view bytes, std::vector<TokenId>& out) const {
  if (bytes == " ") bytes = kSpaceSymbol;  // a vocabulary without a piece for U+2581
  const std::size_t before = out.size();
  for (char c : bytes) out.push_back(vocabulary_.byte_token(static_cast<unsigned char>(c)));
  if (!lacks_bytes_ ||
      std::find(out.begin() + static_cast<std::ptrdiff_t>(before), out.end(), kNoToken) == out.end())
    return;
  out.resize(before);
  if (vocabulary_.unk()) out.push_back(*vocabulary_.unk());
}

}  // namespace cria
