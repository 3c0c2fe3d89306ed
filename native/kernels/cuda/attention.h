// Grouped-query attention over the paged KV cache (GQA: Ainslie et al. 2023; paged KV: Kwon et al. 2023;
// online softmax: Milakov & Gimelshein 2018; tiles and split contexts: Dao et al. 2022, 2023).
#pragma once

#include <cstdint>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/runtime.h"
#include "kernels/ops.h"

namespace cria::cuda {

/// What attention_setup() chose for one device: pages of K or V in flight.
struct AttentionSetup {
  std::int32_t decode_stages = 2, prefill_stages = 2;
};
/// Call once for each device and shape, before the first launch or capture: reserves the kernels' dynamic
/// shared memory. Throws unsupported_model for a head size that the kernels do not take, unsupported_device
/// where shared memory is too small.
AttentionSetup attention_setup(const AttentionShape& shape, const DeviceProperties& device);

struct AttentionBuffers {
  /// AttentionPlan's bytes, on the device.
  const void* plan;
  /// attention_workspace_bytes(), zero-filled once.
  void* workspace;
  AttentionLimits limits;
};

/// ops.h's paged_attention, all pointers on the device. An f32 cache needs no plan. head_dim is even and at
/// most 256. Rows of padding (position < 0) are not written.
///
/// Order of summation for f16 caches, whatever the plan (docs/gpu.md): q and the exponentials are rounded to
/// f16; a page's scores by mma in order of the dimensions; pages in order by an online softmax, within spans
/// (attention_plan.h); spans merged in order.
void paged_attention(const PagedAttentionArgs& args, const AttentionBuffers& buffers,
                     const AttentionSetup& setup, Stream stream);

}  // namespace cria::cuda
