// A vocabulary as plain data, whatever file it came from, and the checks every source must pass.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cria {

using TokenId = std::uint32_t;

/// SentencePiece's piece types (sentencepiece_model.proto), which GGUF's tokenizer.ggml.token_type repeats.
enum class TokenType : std::uint8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

enum class TokenizerKind {
  sentencepiece,  // Llama 1 and 2, Code Llama: BPE by score over characters, byte fallback
  bpe,            // Llama 3: byte-level BPE behind a regular-expression splitter
};

/// What a file says of its vocabulary. `VocabularySource` owns its strings; nothing in it has been checked.
struct VocabularySource {
  TokenizerKind kind = TokenizerKind::sentencepiece;
  std::string pre_tokenizer;         // BPE: GGUF's tokenizer.ggml.pre, e.g. "llama-bpe"
  std::vector<std::string> tokens;   // as in the file: SentencePiece with U+2581, BPE in GPT-2's byte alphabet
  std::vector<float> scores;         // SentencePiece only, one per token
  std::vector<TokenType> types;      // one per token; empty: all normal
  std::vector<std::string> merges;   // BPE: "left right" in the byte alphabet, best first; empty: ranks are the ids
  std::optional<TokenId> bos, eos, eot, unk, pad;
  std::vector<TokenId> extra_eog;    // further ids that end a generation (e.g. <|eom_id|>)
  std::optional<bool> add_bos, add_eos;   // absent: BOS yes (both kinds), EOS no
  std::optional<bool> add_space_prefix;   // SentencePiece's dummy prefix; absent: yes
  std::string chat_template;         // may be empty
};

}  // namespace cria
