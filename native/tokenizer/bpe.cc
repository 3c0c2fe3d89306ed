#include "tokenizer/bpe.h"

namespace cria {
namespace {

/// Calls `take(left, right, id)` for all the ways to split every token in two tokens, by id.
template <class Take>
void for_each_split(const Vocabulary& vocabulary, Take&& take) {
  PrefixHash hash;
  const StringIndex& pieces = vocabulary.pieces();
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    const std::string_view bytes = vocabulary.bytes(id);
    if (vocabulary.find_piece(bytes) != id) continue;  // a control token, or one with the bytes of a piece
    hash.assign(bytes);
    for (std::size_t cut = 1; cut < bytes.size(); ++cut) {
      const TokenId left = pieces.find(vocabulary.all_bytes(), bytes.substr(0, cut), hash.range(0, cut));
      if (left == StringIndex::kAbsent) continue;
      const TokenId right =
          pieces.find(vocabulary.all_bytes(), bytes.substr(cut), hash.range(cut, bytes.size()));
      if (right != StringIndex::kAbsent) take(left, right, id);
    }
  }
}

}  // namespace

BpeEncoder::BpeEncoder(const Vocabulary& vocabulary, const VocabularySource& source)
    : vocabulary_(vocabulary),
      pre_tokenizer_(split_expressions(source)),
      whole_pieces_(uses_whole_pieces(source)),
      pairs_(source.merges.empty() ? vocabulary.size() * 2 : source.merges.size()) {
  if (source.merges.size() > kMaxMergePairs) {
    throw_invalid_vocabulary("expected at most " + std::to_string(kMaxMergePairs) + " merges, found " +
                             std::to_string(source.merges.size()));
  }
  if (source.merges.empty()) {
    derive_merges();
  } else {
    add_merges(source.merges);
  }
}

void BpeEncoder::add_merges(const std::vector<std::string>& merges) {
  // tiktoken ranks the union of a pair, not the pair. A file converted from it lists all the ways to split a
  // token one after the other. Consecutive merges with the same result therefore share a rank; ties between
  // them are broken from the left, as in tiktoken. A trained merge list has one merge per token and is
  // unaffected.
  const auto find = [&](std::size_t i, std::string_view bytes) {
    const std::optional<TokenId> id = vocabulary_.find_piece(bytes);
    if (!id) throw_invalid_vocabulary("merge " + std::to_string(i) + " contains a piece that is not a token");
    return *id;
  };
  std::string left, right;
  TokenId id = 0;
  std::string_view bytes;  // of `id`
  std::uint32_t rank = 0;
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const std::string_view merge = merges[i];
    const std::size_t space = merge.find(' ');
    if (space == merge.npos || !decode_byte_alphabet(merge.substr(0, space), left) ||
        !decode_byte_alphabet(merge.substr(space + 1), right) || left.empty() || right.empty()) {
      throw_invalid_vocabulary("merge " + std::to_string(i) +
                               " is not a pair of pieces in the byte alphabet");
    }
    const TokenId left_id = find(i, left), right_id = find(i, right);
    const bool same =
        bytes.size() == left.size() + right.size() && bytes.starts_with(left) && bytes.ends_with(right);
    if (!same) {
      id = find(i, left + right);
      bytes = vocabulary_.bytes(id);
      rank = static_cast<std::uint32_t>(i);
    }
    pairs_.insert(left_id, right_id, {rank, id});
  }
}

void BpeEncoder::derive_merges() {
  for_each_split(vocabulary_, [&](TokenId left, TokenId right, TokenId id) {
    pairs_.insert(left, right, {id, id});
    if (pairs_.size() > kMaxMergePairs) throw_invalid_vocabulary("the tokens have too many merges");
  });
}

std::vector<std::string> rank_merges(VocabularySource source) {
  const Vocabulary vocabulary(source);
  std::vector<std::string> merges;
  for_each_split(vocabulary, [&](TokenId left, TokenId right, TokenId) {
    if (merges.size() == kMaxMergePairs) throw_invalid_vocabulary("the tokens have too many merges");
    merges.emplace_back(vocabulary.spelling(left)).append(1, ' ').append(vocabulary.spelling(right));
  });
  return merges;
}

void BpeEncoder::encode(std::string_view text, bool /*prefix*/, EncodeRun& run) const {
  const auto take = [&](std::string_view piece) {
    run.poll.tick();
    encode_piece(piece, run);
  };
  pre_tokenizer_.split(text, take);
}

void BpeEncoder::encode_piece(std::string_view piece, EncodeRun& run) const {
  std::vector<TokenId>& out = run.out;
  if (piece.size() == 1) {
    const TokenId id = vocabulary_.byte_token(static_cast<unsigned char>(piece[0]));
    if (id != kNoToken) out.push_back(id);
    return;
  }
  const bool cached = piece.size() <= PieceCache::kMaxBytes;
  PieceCache::Key key;
  if (cached) {
    key = PieceCache::key_of(piece);
    if (run.scratch.cache.append(key, out)) return;
  }
  const std::size_t before = out.size();
  const std::optional<TokenId> whole = whole_pieces_ ? vocabulary_.find_piece(piece) : std::nullopt;
  if (whole) {
    out.push_back(*whole);
  } else {
    std::vector<std::uint32_t>& symbols = run.scratch.merge.symbols;
    symbols.clear();
    for (char c : piece) {
      const TokenId id = vocabulary_.byte_token(static_cast<unsigned char>(c));
      if (id != kNoToken) symbols.push_back(id);
    }
    merge_symbols(pairs_, run.scratch.merge, run.poll);
    out.insert(out.end(), symbols.begin(), symbols.end());
  }
  if (cached) run.scratch.cache.put(key, out.data() + before, out.size() - before);
}

}  // namespace cria
