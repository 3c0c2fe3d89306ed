// The normalizer and the pre-tokenizer of a tokenizer.json.
#pragma once

#include "core/json.h"
#include "tokenizer/vocabulary.h"

namespace cria {

/// Throws ERR_UNSUPPORTED_MODEL: "<name>: <what>: expected <expected>, found <found>".
[[noreturn]] void refuse_tokenizer(const std::string& name, std::string_view what, std::string_view expected,
                                   std::string_view found);

/// Reads `normalizer` and `pre_tokenizer` of the document's root into a source: its kind, how text is split
/// (byte-level), where the space prefix stands (characters). Steps that are not supported are refused by
/// their names. Read `whole_pieces` first: the name of the pre-tokenizer depends on it.
void read_pipeline(const JsonDocument& document, VocabularySource& source);

}  // namespace cria
