// A model file's tensors, on a backend.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/cancel.h"
#include "io/model_source.h"
#include "kernels/backend.h"
#include "model/adapter.h"
#include "model/config.h"

namespace cria {

struct ModelWeights {
  Weight embedding;  // [vocab, hidden]
  std::vector<LayerWeights> layers;
  Weight output_norm;  // f32 [hidden]
  Weight output;       // [vocab, hidden]; the embedding when tied
  std::uint64_t bytes = 0;
  std::uint64_t parameters = 0;
  std::vector<Adapter> adapters;  // beside the model's own weights
};

/// Called from reading threads, one at a time, with bytes in order of magnitude 8 MiB apart.
using LoadProgress = std::function<void(std::uint64_t loaded_bytes, std::uint64_t total_bytes)>;

enum class WeightSource {
  read,    // in parallel, straight into the backend's memory
  mapped,  // used where the file is mapped (FileMapping)
};

/// The tensors of a checked file, in the order in which load_weights() uploads them.
/// `apart`: gate and up must not be fused (WeightUse::gate).
std::vector<WeightSpec> weight_specs(const ModelSource& file, const ModelConfig& config, bool apart = false);

/// Brings every tensor of a checked file (read_config) to the backend.
/// Throws ERR_ABORTED, ERR_IO, ERR_OUT_OF_MEMORY; nothing is left running.
ModelWeights load_weights(const ModelSource& file, const ModelConfig& config, Backend& backend,
                          WeightSource source, bool apart, const LoadProgress& progress,
                          const CancelFlag& cancel);

}  // namespace cria
