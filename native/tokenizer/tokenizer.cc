#include "tokenizer/tokenizer.h"

#include <new>

#include "core/error.h"
#include "tokenizer/bpe.h"
#include "tokenizer/special_tokens.h"
#include "tokenizer/spm.h"
#include "tokenizer/stream_decoder.h"
#include "tokenizer/unicode.h"

namespace cria {
namespace {

/// SpmEncoder keeps offsets in 30 bits.
constexpr std::size_t kMaxTextBytes = (std::size_t{1} << 30) - 16;

/// A range of bytes in which the spellings of special tokens count.
struct SpecialRange {
  std::size_t begin, end;
};

/// The pieces as one well-formed text. A single well-formed piece is not copied.
struct JoinedText {
  std::string storage;
  std::string_view text;
  std::vector<SpecialRange> special;  // ascending, not adjacent
};

JoinedText join(std::span<const TextPiece> pieces) {
  JoinedText joined;
  std::size_t at = 0;
  const auto advance = [&](std::size_t bytes) {
    at += bytes;
    if (at <= kMaxTextBytes) return;
    throw Error(ErrorCode::invalid_argument,
                "expected a text of at most " + std::to_string(kMaxTextBytes) +
                    " bytes (malformed bytes count three times), found a longer one",
                {{"limit", kMaxTextBytes}});
  };
  const bool as_is = pieces.size() == 1 && is_well_formed_utf8(pieces[0].text);
  for (const TextPiece& piece : pieces) {
    const std::size_t begin = at;
    if (as_is) {
      joined.text = piece.text;
      advance(piece.text.size());
    } else {
      if (piece.text.size() > kMaxTextBytes) advance(piece.text.size());  // throws before the copy
      const std::size_t before = joined.storage.size();
      if (append_well_formed(piece.text, joined.storage) > 0) joined.storage += kReplacementCharacter;
      advance(joined.storage.size() - before);
    }
    if (!piece.special || at == begin) continue;
    if (!joined.special.empty() && joined.special.back().end == begin)
      joined.special.back().end = at;
    else
      joined.special.push_back({begin, at});
  }
  return joined;
}

class VocabularyTokenizer final : public Tokenizer {
 public:
  explicit VocabularyTokenizer(VocabularySource source)
      : vocabulary_(source),
        adds_bos_(cria::adds_bos(source)),
        adds_space_prefix_(source.kind == TokenizerKind::sentencepiece &&
                           source.add_space_prefix.value_or(true)),
        prefix_after_control_(adds_space_prefix_ && source.prefix_after_control),
        chat_template_(std::move(source.chat_template)),
        specials_(special_spellings()),
        encoder_(make_encoder(source)),
        warnings_(std::move(source.warnings)) {}

  TokenizerKind kind() const override { return vocabulary_.kind(); }
  std::uint32_t vocab_size() const override { return vocabulary_.size(); }
  std::optional<TokenId> bos() const override { return vocabulary_.bos(); }
  std::optional<TokenId> eos() const override { return vocabulary_.eos(); }
  const std::vector<TokenId>& end_of_generation_ids() const override {
    return vocabulary_.end_of_generation_ids();
  }
  bool adds_bos() const override { return adds_bos_; }
  bool adds_space_prefix() const override { return adds_space_prefix_; }
  bool adds_prefix_after_control() const override { return prefix_after_control_; }
  const std::vector<std::string>& warnings() const override { return warnings_; }
  const std::string& chat_template() const override { return chat_template_; }

  using Tokenizer::encode;
  std::vector<TokenId> encode(std::span<const TextPiece> pieces, const EncodeOptions& options,
                              const CancelFlag* cancel) const override;

  TokenType type(TokenId id) const override {
    check(id);
    return vocabulary_.type(id);
  }
  std::string_view token_bytes(TokenId id, bool special) const override {
    check(id);
    return special || !vocabulary_.is_control(id) ? vocabulary_.bytes(id) : std::string_view();
  }
  std::string decode(std::span<const TokenId> ids, bool special) const override;

  std::optional<TokenId> find(std::string_view spelling) const override { return vocabulary_.find(spelling); }
  std::string_view spelling(TokenId id) const override {
    check(id);
    return vocabulary_.spelling(id);
  }

 private:
  SpellingMatcher special_spellings() const;
  std::unique_ptr<TextEncoder> make_encoder(const VocabularySource& source) const;
  void encode_special(std::string_view text, std::span<const SpecialRange> ranges, EncodeRun& run) const;
  void check(TokenId id) const {
    if (id < vocabulary_.size()) return;
    throw Error(ErrorCode::invalid_argument,
                "token id " + std::to_string(id) + " is beyond the vocabulary of " +
                    std::to_string(vocabulary_.size()),
                {{"id", id}, {"vocabularySize", vocabulary_.size()}});
  }

  const Vocabulary vocabulary_;
  const bool adds_bos_;
  const bool adds_space_prefix_;
  const bool prefix_after_control_;
  const std::string chat_template_;
  const SpellingMatcher specials_;
  const std::unique_ptr<const TextEncoder> encoder_;
  const std::vector<std::string> warnings_;
  mutable ScratchPool pool_;
};

SpellingMatcher VocabularyTokenizer::special_spellings() const {
  std::vector<std::pair<std::string_view, TokenId>> spellings;
  for (TokenId id = 0; id < vocabulary_.size(); ++id) {
    const TokenType type = vocabulary_.type(id);
    if (type == TokenType::control || type == TokenType::user_defined) {
      spellings.emplace_back(vocabulary_.bytes(id), id);
    }
  }
  return SpellingMatcher(std::move(spellings));
}

std::unique_ptr<TextEncoder> VocabularyTokenizer::make_encoder(const VocabularySource& source) const {
  if (kind() == TokenizerKind::sentencepiece) return std::make_unique<SpmEncoder>(vocabulary_, source);
  return std::make_unique<BpeEncoder>(vocabulary_, source);
}

std::vector<TokenId> VocabularyTokenizer::encode(std::span<const TextPiece> pieces,
                                                 const EncodeOptions& options,
                                                 const CancelFlag* cancel) const {
  const bool bos = options.bos.value_or(adds_bos_);
  if (bos && !vocabulary_.bos()) throw Error(ErrorCode::invalid_argument, "the vocabulary has no BOS token");
  if (options.eos && !vocabulary_.eos())
    throw Error(ErrorCode::invalid_argument, "the vocabulary has no EOS token");
  if (cancel) cancel->check();
  try {
    JoinedText joined = join(pieces);
    const std::string_view text = joined.text.empty() ? std::string_view(joined.storage) : joined.text;
    const ScratchPool::Lease scratch(pool_);
    std::vector<TokenId> ids;
    ids.reserve(text.size() / 4 + 4);
    EncodeRun run{*scratch, ids, CancelPoll(cancel)};
    if (bos) ids.push_back(*vocabulary_.bos());
    if (!joined.special.empty() && !specials_.empty()) {
      encode_special(text, joined.special, run);
    } else if (!text.empty()) {
      encoder_->encode(text, adds_space_prefix_, run);
    }
    if (options.eos) ids.push_back(*vocabulary_.eos());
    return ids;
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::out_of_memory, "there is not enough memory to encode this text");
  }
}

/// Encodes each part between special tokens separately. With SentencePiece each part gets a dummy prefix, as
/// in Meta's code (one encode() per turn, after <s>) and in llama.cpp (llama-vocab.cpp, "prefix with space if
/// previous is special"), unless the vocabulary says otherwise (Hugging Face's legacy=false). User-defined
/// pieces do not divide a text for SentencePiece: its encoder handles them.
void VocabularyTokenizer::encode_special(std::string_view text, std::span<const SpecialRange> ranges,
                                         EncodeRun& run) const {
  const bool user_defined_divide = kind() == TokenizerKind::bpe;
  std::size_t begin = 0;  // of the part not encoded yet
  const auto encode_until = [&](std::size_t end) {
    const bool prefix = begin == 0 ? adds_space_prefix_ : prefix_after_control_;
    if (end > begin) encoder_->encode(text.substr(begin, end - begin), prefix, run);
  };
  for (const SpecialRange& range : ranges) {
    const std::string_view searched = text.substr(0, range.end);
    for (std::size_t from = range.begin; from < range.end;) {
      run.poll.tick();
      const SpellingMatcher::Match match = specials_.find(searched, from);
      if (match.length == 0) break;
      from = match.begin + match.length;
      if (!user_defined_divide && !vocabulary_.is_control(match.id)) continue;
      encode_until(match.begin);
      run.out.push_back(match.id);
      begin = from;
    }
  }
  encode_until(text.size());
}

std::string VocabularyTokenizer::decode(std::span<const TokenId> ids, bool special) const {
  TextBytes text_bytes(*this, special, true);
  std::string bytes;
  for (TokenId id : ids) bytes += text_bytes.next(id);
  return is_well_formed_utf8(bytes) ? bytes : to_well_formed(bytes);
}

}  // namespace

std::shared_ptr<const Tokenizer> Tokenizer::build(VocabularySource source) {
  return std::make_shared<const VocabularyTokenizer>(std::move(source));
}

}  // namespace cria
