// Tells models apart: a file that was made with one model must not be used with another.
#pragma once

#include <cstdint>

#include "io/gguf.h"
#include "model/config.h"

namespace cria {

/// A hash over what determines the model's keys and values: the configuration (shapes, RoPE, epsilon; not the
/// name, nor the context length, which change no value), and for each tensor, in the file's order, its name,
/// type, shape and up to 12 KiB of its bytes, from its beginning, middle and end (a small tensor whole). So
/// two fine-tunes of one base differ, and a model cut into parts is the same as in one file. It identifies
/// and does not authenticate: weights that were altered between the samples, or to deceive, go unnoticed.
///
/// `config` is the file's own (read_config). Costs up to three short reads per tensor: about a millisecond
/// for 1B parameters once the weights have been read, and a tenth of a second when they are not in the page
/// cache yet. Throws ERR_IO.
std::uint64_t model_fingerprint(const GgufFile& file, const ModelConfig& config);

}  // namespace cria
