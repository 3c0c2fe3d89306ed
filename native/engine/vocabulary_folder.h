// The vocabulary in tokenizer files: one file of any kind, or a folder with several.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tokenizer/vocabulary.h"

namespace cria {

/// The tokenizer of a model's folder: its tokenizer.json, else its tokenizer.model, else its tekken.json,
/// with what its tokenizer_config.json and its chat_template.jinja add. `vocab_size` counts the special
/// tokens of a rank file; absent: as params.json says. Errors: ERR_INVALID_FILE (a folder with none of them),
/// ERR_IO, and those of the readers (tokenizer/vocabulary_files.h).
VocabularySource read_vocabulary_folder(const std::string& folder,
                                        std::optional<std::uint32_t> vocab_size = {});

/// The same for any path: a folder, a GGUF, or a tokenizer file, told apart by their contents. A tokenizer
/// file is read together with the tokenizer_config.json beside it.
VocabularySource load_vocabulary(const std::string& path);

}  // namespace cria
