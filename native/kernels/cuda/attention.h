// Grouped-query attention over the paged KV cache (GQA: Ainslie et al. 2023; paged KV: Kwon et al. 2023;
// online softmax: Milakov & Gimelshein 2018; tiles and split contexts: Dao et al. 2022, 2023).
#pragma once

#include <cstdint>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/runtime.h"
#include "kernels/ops.h"

namespace cria::cuda {

/// Chosen for one device by attention_setup().
struct AttentionSetup {
  std::int32_t decode_stages = 2, prefill_stages = 2;  // pages of K or V under way
};
/// Once for each device and shape, before the first launch or capture: asks for the shared memory that the
/// kernels want of this device.
AttentionSetup attention_setup(const AttentionShape& shape, const DeviceProperties& device);

struct AttentionBuffers {
  const void* plan;  // AttentionPlan's bytes, on the device
  void* workspace;   // attention_workspace_bytes(), zero-filled once
  AttentionLimits limits;
};

/// ops.h's paged_attention, all pointers on the device. For an f32 cache the plan is not used. head_dim is
/// even and at most 256. Rows of padding (position < 0) are left as they are.
///
/// Order of summation (docs/gpu.md), whatever the plan: f16 caches: q and the exponentials are
/// rounded to f16; a page's scores by mma in order of the dimensions; pages in order by an online softmax,
/// within spans (attention_plan.h); spans merged in order.
void paged_attention(const PagedAttentionArgs& args, const AttentionBuffers& buffers,
                     const AttentionSetup& setup, Stream stream);

}  // namespace cria::cuda
