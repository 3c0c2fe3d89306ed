// Identifies a model, so that a KV state saved with one model is not used with another.
#pragma once

#include <cstdint>

#include "io/model_source.h"
#include "model/config.h"

namespace cria {

/// A hash of everything that determines the model's keys and values: the configuration (shapes, RoPE,
/// epsilon; not the name or the context length, which change no value) and, for each tensor in file order,
/// its name, type, shape and up to 12 KiB of its bytes from the beginning, middle and end (small tensors
/// whole). Two fine-tunes of one base therefore differ, and a split model equals the same model in one file.
/// The hash identifies but does not authenticate: it misses weights altered between the samples or with
/// intent.
///
/// `config` is that of the file (read_config). Costs up to three short reads per tensor: about a millisecond
/// for 1B parameters when the weights are in the page cache, a tenth of a second when they are not. Throws
/// ERR_IO.
std::uint64_t model_fingerprint(const ModelSource& file, const ModelConfig& config);

}  // namespace cria
