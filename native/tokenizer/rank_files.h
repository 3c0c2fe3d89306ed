// tekken.json once it is parsed.
#pragma once

#include "core/json.h"
#include "tokenizer/vocabulary.h"

namespace cria {

/// See read_tekken() of vocabulary_files.h.
VocabularySource read_tekken(const JsonDocument& document);

}  // namespace cria
