// Measuring a model on a text: perplexity and importance matrices.
#pragma once

#include <napi.h>

namespace cria {

/// perplexity(options, onChunk): NativeTask<NativePerplexity>.
Napi::Value perplexity_task(const Napi::CallbackInfo& info);
/// computeImatrix(options, onProgress | null): NativeTask<NativeImatrix>.
Napi::Value compute_imatrix_task(const Napi::CallbackInfo& info);

}  // namespace cria
