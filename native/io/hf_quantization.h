// `quantization_config` of a Hugging Face folder, and the scales of its FP8 matrices. Sources: transformers,
// quantizers/ and integrations/finegrained_fp8.py, fbgemm_fp8.py; vllm-project/compressed-tensors.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/json.h"
#include "io/assembled_source.h"

namespace cria {

struct HfQuantization {
  bool fp8 = false;
  /// Where scales stand for blocks.
  std::uint64_t block_rows = 128, block_cols = 128;
};

/// Errors: ERR_UNSUPPORTED_MODEL naming any other method (GPTQ, AWQ, bitsandbytes, ...) with a hint.
HfQuantization read_hf_quantization(const JsonValue& config, const AssembledSource& source);

/// The scales of the FP8 matrix `weight` from the tensor `scale`: one, one for each row, or one for each
/// block. Throws ERR_INVALID_MODEL for a tensor of any other shape.
Fp8Scales read_fp8_scales(const StoredTensor& weight, const StoredTensor& scale,
                          const HfQuantization& quantization, const AssembledSource& source);

}  // namespace cria
