// The vocabulary in the metadata of a GGUF file.
#pragma once

#include "io/model_source.h"
#include "tokenizer/vocabulary.h"

namespace cria {

/// The `tokenizer.*` metadata as plain data, which Tokenizer::build checks. Errors: ERR_INVALID_MODEL
/// (a missing key, a value of the wrong type), ERR_UNSUPPORTED_MODEL (a tokenizer.ggml.model other than
/// "llama" and "gpt2").
VocabularySource read_vocabulary(const ModelSource& file);

/// Its counterpart: sets the `tokenizer.*` metadata, from which read_vocabulary() makes an equal source (BPE
/// without merges gets them from its ranks). What GGUF has no key for goes into keys of cria's own.
void write_vocabulary(const VocabularySource& source, ModelSource& file);

}  // namespace cria
