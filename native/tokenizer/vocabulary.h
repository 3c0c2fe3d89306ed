// A vocabulary as plain data, independent of the file format, and the checks that every source must pass.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/string_index.h"

namespace cria {

using TokenId = std::uint32_t;
inline constexpr TokenId kNoToken = 0xffffffff;

/// SentencePiece's piece types (sentencepiece_model.proto); GGUF's tokenizer.ggml.token_type uses the same
/// numbers, and 0 for "undefined".
enum class TokenType : std::uint8_t {
  undefined = 0,  // a source may have it; Vocabulary makes it normal
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6
};

enum class TokenizerKind {
  sentencepiece,  // Llama 1 and 2, Code Llama: BPE by score over characters, byte fallback
  bpe,            // Llama 3: byte-level BPE behind a pre-tokenizer
};

/// The vocabulary of a file, unchecked.
struct VocabularySource {
  TokenizerKind kind = TokenizerKind::sentencepiece;
  /// BPE: GGUF's tokenizer.ggml.pre, e.g. "llama-bpe". Empty or unknown: "default", with a warning.
  std::string pre_tokenizer;
  /// BPE: expressions in place of those of `pre_tokenizer` (see find_split_step()), for a combination that
  /// has no name. May be empty: the whole text is one piece.
  std::optional<std::vector<std::string>> split_expressions;
  /// BPE: whether a piece that is a token becomes it without merging; absent: as `pre_tokenizer` says.
  std::optional<bool> whole_pieces;
  /// Spellings as in the file: SentencePiece with U+2581, BPE in GPT-2's byte alphabet.
  std::vector<std::string> tokens;
  /// SentencePiece only: one per token.
  std::vector<float> scores;
  /// One per token; empty: all normal.
  std::vector<TokenType> types;
  /// "left right", lowest rank first. BPE: in the byte alphabet; empty: the ids are the ranks. SentencePiece:
  /// in place of the scores; empty: any two pieces whose union is a piece merge, by score.
  std::vector<std::string> merges;
  /// BOS and EOS must exist in the vocabulary; the others are ignored if they do not, with a warning.
  std::optional<TokenId> bos, eos, eot, unk, pad;
  /// Further ids that end a generation (e.g. <|eom_id|>).
  std::vector<TokenId> extra_eog;
  /// Absent: BOS is added for SentencePiece, and for BPE if `pre_tokenizer` says so; EOS is not.
  std::optional<bool> add_bos, add_eos;
  /// SentencePiece's dummy prefix; absent: added.
  std::optional<bool> add_space_prefix;
  /// Whether the prefix also stands after each control token (Meta's code, llama.cpp), or only at the start
  /// of a text (Metaspace with prepend_scheme "first" in tokenizer.json).
  bool prefix_after_control = true;
  /// Whether a text that begins with a space gets the prefix too (SentencePiece), or not (Metaspace).
  bool prefix_before_space = true;
  /// SentencePiece: whether spaces at the start and the end of a text are dropped and those side by side are
  /// one.
  bool remove_extra_whitespaces = false;
  /// May be empty.
  std::string chat_template;
  /// What was ignored or assumed, in full sentences.
  std::vector<std::string> warnings;
};

/// SentencePiece's symbol for a space, U+2581.
inline constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";

/// Appends `text` to `out` with a space for each U+2581.
void append_with_spaces(std::string_view text, std::string& out);

/// Throws ERR_INVALID_MODEL: "tokenizer: <message>".
[[noreturn]] void throw_invalid_vocabulary(const std::string& message);

/// A checked vocabulary: all ids in it exist, and the spellings of pieces are unique.
class Vocabulary {
 public:
  /// Throws ERR_INVALID_MODEL. Moves the tokens, scores and types out of `source` and adds to its warnings;
  /// does not check its merges.
  explicit Vocabulary(VocabularySource& source);
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;

  TokenizerKind kind() const noexcept { return kind_; }
  std::uint32_t size() const noexcept { return bytes_.size(); }
  TokenType type(TokenId id) const noexcept { return types_[id]; }
  /// Whether it is a control or unknown token, which running text does not contain.
  bool is_control(TokenId id) const noexcept {
    return types_[id] == TokenType::control || types_[id] == TokenType::unknown;
  }
  float score(TokenId id) const noexcept { return scores_[id]; }

  /// The bytes that a token stands for: its spelling with U+2581 as a space and with the byte alphabet or
  /// <0x..> decoded.
  std::string_view bytes(TokenId id) const noexcept { return bytes_[id]; }
  const StringList& all_bytes() const noexcept { return bytes_; }
  /// Index by bytes of the pieces that the encoder may produce from text (SentencePiece: normal, user-defined
  /// and unused pieces that are well-formed UTF-8; BPE: normal pieces).
  const StringIndex& pieces() const noexcept { return pieces_; }
  std::optional<TokenId> find_piece(std::string_view bytes) const noexcept;
  /// kNoToken: the vocabulary cannot express this byte.
  TokenId byte_token(unsigned char byte) const noexcept { return byte_tokens_[byte]; }

  std::string_view spelling(TokenId id) const noexcept { return spellings_[id]; }
  std::optional<TokenId> find(std::string_view spelling) const;

  std::optional<TokenId> bos() const noexcept { return bos_; }
  std::optional<TokenId> eos() const noexcept { return eos_; }
  std::optional<TokenId> unk() const noexcept { return unk_; }
  const std::vector<TokenId>& end_of_generation_ids() const noexcept { return end_of_generation_; }

 private:
  static void check_ids(VocabularySource& source);
  void assign_types(VocabularySource& source);
  void add_sentencepiece_tokens();
  void add_bpe_tokens();
  void index_piece(TokenId id);
  void collect_end_of_generation(const VocabularySource& source);

  TokenizerKind kind_;
  std::vector<std::string> spellings_;
  std::vector<float> scores_;  // SentencePiece only
  std::vector<TokenType> types_;
  StringList bytes_;
  StringIndex pieces_;
  std::unordered_map<std::string_view, TokenId> others_;  // spellings outside pieces_; the lowest id of each
  std::vector<TokenId> byte_tokens_;                      // [256]
  std::optional<TokenId> bos_, eos_, unk_;
  std::vector<TokenId> end_of_generation_;
};

/// The expressions that split text for a source of kind BPE. ERR_UNSUPPORTED_MODEL: a pre-tokenizer that
/// other software knows and cria does not.
std::vector<std::string_view> split_expressions(const VocabularySource& source);
bool uses_whole_pieces(const VocabularySource& source) noexcept;
/// Whether BOS is added when the caller does not say.
bool adds_bos(const VocabularySource& source) noexcept;

/// Decodes text in GPT-2's byte alphabet, which writes each byte as a printable character (openai/gpt-2,
/// encoder.py, bytes_to_unicode). False when `text` contains any other character.
bool decode_byte_alphabet(std::string_view text, std::string& bytes);
/// Appends `bytes` in that alphabet.
void append_byte_alphabet(std::string_view bytes, std::string& out);

}  // namespace cria
