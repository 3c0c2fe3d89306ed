// generation_config.json of a Hugging Face folder -> GGUF metadata: the sampling that the model's makers
// recommend, under llama.cpp's keys `general.sampling.*`. Source: llama.cpp, gguf-py/gguf/constants.py.
#pragma once

#include <string>

#include "io/assembled_source.h"
#include "io/file.h"

namespace cria {

/// Does nothing without the file. Errors: ERR_INVALID_FILE, ERR_UNSUPPORTED_FILE (too large), ERR_IO.
void read_hf_generation_config(const std::string& folder, const FileOpener& open, AssembledSource* source);

}  // namespace cria
