// The chat templates of a Hugging Face folder -> GGUF metadata: `tokenizer.chat_template`, and with names
// `tokenizer.chat_template.<name>` and `tokenizer.chat_templates`, as llama.cpp's converter writes them.
#pragma once

#include <string>

#include "io/assembled_source.h"
#include "io/file.h"

namespace cria {

/// As transformers reads them (PreTrainedTokenizerBase.from_pretrained): chat_template.jinja and
/// additional_chat_templates/<name>.jinja, else `chat_template` in tokenizer_config.json, a text or a list of
/// texts with names. Errors: ERR_INVALID_FILE, ERR_UNSUPPORTED_FILE (too large), ERR_IO.
void read_hf_chat_templates(const std::string& folder, const FileOpener& open, AssembledSource* source);

}  // namespace cria
