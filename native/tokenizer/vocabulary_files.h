// Readers of tokenizer files: bytes -> VocabularySource. Whoever opens the files passes their contents in.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tokenizer/vocabulary.h"

namespace cria {

// `name` is for messages, such as a path. Errors of all readers: ERR_INVALID_FILE (the bytes contradict the
// format), ERR_UNSUPPORTED_FILE (a file that is none of these, or too large) and ERR_UNSUPPORTED_MODEL (a
// kind of tokenizer, or a step of one, that cria does not run, named).

/// SentencePiece's `tokenizer.model` (sentencepiece_model.proto), of model type BPE with the identity
/// normalizer.
VocabularySource read_sentencepiece_model(std::string_view bytes, const std::string& name);

/// tiktoken's rank file as Meta ships it with Llama 3 (also `tokenizer.model`): a line per token, the token
/// in base64 and its rank, from 0 without gaps. The special tokens of Llama 3.1 and later follow the ranks,
/// up to `vocab_size`, or 256 of them.
VocabularySource read_tiktoken_ranks(std::string_view bytes, const std::string& name,
                                     std::optional<std::uint32_t> vocab_size = {});

/// Mistral's `tekken.json`: the special tokens come first.
VocabularySource read_tekken(std::string json, const std::string& name);

/// Hugging Face's `tokenizer.json`, of model type BPE: byte-level (GPT-2, Llama 3) or over characters with
/// U+2581 for a space (Llama 2). Says nothing of chat templates.
VocabularySource read_tokenizer_json(std::string json, const std::string& name);

/// `tokenizer_config.json` beside one of the others: BOS, EOS, unknown and padding tokens, whether BOS and
/// EOS are added, and the chat template (of several: the one named "default").
void apply_tokenizer_config(std::string json, const std::string& name, VocabularySource& source);

/// Whether a file that begins with `head` (a few kilobytes, or all of it) may be one of the four.
bool looks_like_tokenizer(std::string_view head) noexcept;

/// Any of the four, told apart by their contents. `vocab_size`: as for read_tiktoken_ranks().
VocabularySource read_vocabulary_file(std::string bytes, const std::string& name,
                                      std::optional<std::uint32_t> vocab_size = {});

}  // namespace cria
