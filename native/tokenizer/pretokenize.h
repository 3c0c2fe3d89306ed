// Splits text into the pieces within which byte-level BPE merges.
#pragma once

#include <string_view>

namespace cria {

/// Whether GGUF's `tokenizer.ggml.pre` names the splitter of Llama 3.
bool is_llama3_splitter(std::string_view name) noexcept;

/// The end of the piece that begins at `p` (`p < end`, well-formed UTF-8). A hand-written matcher for
/// tiktoken's pattern in Meta's llama3 tokenizer.py:
///   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
///   ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
/// Every character begins a match of some alternative, so the pieces cover the text.
const char* llama3_piece_end(const char* p, const char* end) noexcept;

}  // namespace cria
