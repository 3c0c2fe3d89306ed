// A vocabulary as plain data, whatever file it came from, and the checks every source must pass.
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

/// SentencePiece's piece types (sentencepiece_model.proto), which GGUF's tokenizer.ggml.token_type repeats.
enum class TokenType : std::uint8_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6
};

enum class TokenizerKind {
  sentencepiece,  // Llama 1 and 2, Code Llama: BPE by score over characters, byte fallback
  bpe,            // Llama 3: byte-level BPE behind a regular-expression splitter
};

/// What a file says of its vocabulary. `VocabularySource` owns its strings; nothing in it has been checked.
struct VocabularySource {
  TokenizerKind kind = TokenizerKind::sentencepiece;
  std::string pre_tokenizer;        // BPE: GGUF's tokenizer.ggml.pre, e.g. "llama-bpe"
  std::vector<std::string> tokens;  // as in the file: SentencePiece with U+2581, BPE in GPT-2's byte alphabet
  std::vector<float> scores;        // SentencePiece only, one per token
  std::vector<TokenType> types;     // one per token; empty: all normal
  std::vector<std::string>
      merges;  // BPE: "left right" in the byte alphabet, best first; empty: ranks are the ids
  std::optional<TokenId> bos, eos, eot, unk, pad;
  std::vector<TokenId> extra_eog;        // further ids that end a generation (e.g. <|eom_id|>)
  std::optional<bool> add_bos, add_eos;  // absent: BOS yes (both kinds), EOS no
  std::optional<bool> add_space_prefix;  // SentencePiece's dummy prefix; absent: yes
  std::string chat_template;             // may be empty
};

/// A checked vocabulary: every id it names exists, every byte can be encoded, spellings of pieces are unique.
class Vocabulary {
 public:
  /// Throws ERR_INVALID_MODEL. The merges of the source are left to the caller.
  explicit Vocabulary(VocabularySource& source);
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;

  TokenizerKind kind() const noexcept { return kind_; }
  std::uint32_t size() const noexcept { return bytes_.size(); }
  TokenType type(TokenId id) const noexcept { return types_[id]; }
  /// Control and unknown tokens: not part of running text.
  bool is_control(TokenId id) const noexcept {
    return types_[id] == TokenType::control || types_[id] == TokenType::unknown;
  }
  float score(TokenId id) const noexcept { return scores_[id]; }

  /// The bytes a token stands for: U+2581 as a space, GGUF's byte alphabet and <0x..> decoded, else its
  /// spelling.
  std::string_view bytes(TokenId id) const noexcept { return bytes_[id]; }
  const StringList& all_bytes() const noexcept { return bytes_; }
  /// Index of the pieces that text can become, by their bytes (SentencePiece: normal, user-defined and unused
  /// ones that are well-formed UTF-8; BPE: normal ones).
  const StringIndex& pieces() const noexcept { return pieces_; }
  std::optional<TokenId> find_piece(std::string_view bytes) const noexcept;
  TokenId byte_token(unsigned char byte) const noexcept { return byte_tokens_[byte]; }

  std::string_view spelling(TokenId id) const noexcept { return spellings_[id]; }
  std::optional<TokenId> find(std::string_view spelling) const;

  std::optional<TokenId> bos() const noexcept { return bos_; }
  std::optional<TokenId> eos() const noexcept { return eos_; }
  const std::vector<TokenId>& end_of_generation_ids() const noexcept { return end_of_generation_; }

 private:
  void check_ids(const VocabularySource& source) const;
  void assign_types(VocabularySource& source);
  void add_sentencepiece_tokens();
  void add_bpe_tokens();
  void index_piece(TokenId id);
  void check_byte_tokens() const;
  void collect_end_of_generation(const VocabularySource& source);

  TokenizerKind kind_;
  std::vector<std::string> spellings_;
  std::vector<float> scores_;  // SentencePiece only
  std::vector<TokenType> types_;
  StringList bytes_;
  StringIndex pieces_;
  std::unordered_map<std::string_view, TokenId>
      others_;                        // spellings outside pieces_; the first of equal ones
  std::vector<TokenId> byte_tokens_;  // 256
  std::optional<TokenId> bos_, eos_;
  std::vector<TokenId> end_of_generation_;
};

/// GPT-2's byte alphabet (openai/gpt-2, encoder.py, bytes_to_unicode): each byte as a printable character.
/// Decodes `text` into `bytes`; false when it holds anything else.
bool decode_byte_alphabet(std::string_view text, std::string& bytes);

}  // namespace cria
