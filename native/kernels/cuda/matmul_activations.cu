// Quantizes activations: the bits of kernels/cpu/quantize.h in the layout of matmul_weights.cuh.
#include "core/error.h"
#include "kernels/cuda/matmul_weights.cuh"

namespace cria::cuda {
namespace {

constexpr int kQuantizeWarps = 8;
constexpr int kQuantizeThreads = kQuantizeWarps * kWarpSize;

struct QuantizeShared {
  BlockSumShared<kQuantizeWarps> sum;
};

/// A row of x, normalized by RMSNorm unless norm is null.
struct SourceRow {
  const float* x;
  const float* norm;
  float scale;
  int64_t cols;

  CRIA_DEVICE float at(int64_t col) const {
    if (col >= cols) return 0.0f;
    return norm ? x[col] * scale * norm[col] : x[col];
  }
};

/// A lane's eight columns: four from `first` on and four from `first` + 16 on.
struct LaneColumns {
  float v[8];
  CRIA_DEVICE LaneColumns(const SourceRow& row, int64_t first) {
    if (first + 16 < row.cols) {  // cols is a multiple of 32 and the row is aligned to 16 bytes
      const float4 a = *reinterpret_cast<const float4*>(row.x + first);
      const float4 b = *reinterpret_cast<const float4*>(row.x + first + 16);
      v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
      v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
      if (row.norm) {
        const float4 c = *reinterpret_cast<const float4*>(row.norm + first);
        const float4 d = *reinterpret_cast<const float4*>(row.norm + first + 16);
        v[0] = v[0] * row.scale * c.x, v[1] = v[1] * row.scale * c.y;
        v[2] = v[2] * row.scale * c.z, v[3] = v[3] * row.scale * c.w;
        v[4] = v[4] * row.scale * d.x, v[5] = v[5] * row.scale * d.y;
        v[6] = v[6] * row.scale * d.z, v[7] = v[7] * row.scale * d.w;
      }
    } else {
      for (int i = 0; i < 8; i++) v[i] = 0.0f;
    }
  }
  /// The largest magnitude as bits, where infinity and NaN compare above all finite values.
  CRIA_DEVICE uint32_t max_magnitude() const {
    uint32_t magnitude = 0;
    for (int i = 0; i < 8; i++) magnitude = max(magnitude, bits_of(v[i]) & 0x7fffffffu);
    return magnitude;
  }
};

constexpr uint32_t kInfinityBits = 0x7f800000u;
constexpr uint32_t kNanBits = 0x7fc00000u;

CRIA_DEVICE uint2 pack_bytes(const int (&q)[8]) {
  const auto word = [&](int i) {
    return (static_cast<uint32_t>(q[i]) & 255u) | (static_cast<uint32_t>(q[i + 1]) & 255u) << 8 |
           (static_cast<uint32_t>(q[i + 2]) & 255u) << 16 | static_cast<uint32_t>(q[i + 3]) << 24;
  };
  return make_uint2(word(0), word(4));
}

/// A warp quantizes a chunk of 256 columns, eight to a lane: lane 2 * (4 * pair + t) + group % 2. The four
/// lanes of a group differ in bits 1 and 2.
CRIA_DEVICE void quantize_q8_0(const SourceRow& row, int64_t chunk, int64_t at, const Activations& out) {
  const int lane = lane_in_warp(), unit = lane / 2;
  const int group = unit / 4 * 2 + lane % 2;
  const LaneColumns x(row, chunk * 256 + group * 32 + unit % 4 * 4);
  uint32_t magnitude = x.max_magnitude();
  for (int step = 2; step <= 4; step *= 2)
    magnitude = max(magnitude, __shfl_xor_sync(kFullWarp, magnitude, step));
  const bool bad = magnitude >= kInfinityBits;
  const float d = float_of_bits(magnitude) / 127.0f;
  float inverse = d == 0.0f ? 0.0f : 1.0f / d;
  if (bad || bits_of(inverse) >= kInfinityBits) inverse = 0.0f;
  int q[8], sum = 0;
  for (int i = 0; i < 8; i++) {
    q[i] = inverse == 0.0f ? 0 : static_cast<int>(roundf(x.v[i] * inverse));
    sum += q[i];
  }
  for (int step = 2; step <= 4; step *= 2) sum += __shfl_xor_sync(kFullWarp, sum, step);
  *reinterpret_cast<uint2*>(const_cast<uint8_t*>(out.q) + at * 256 + lane * 8) = pack_bytes(q);
  if (unit % 4 == 0) {
    const float nan = float_of_bits(kNanBits);
    const float weighted = f16_to_float(float_to_f16(d * static_cast<float>(sum)));
    const int64_t block = (chunk * 8 + group) * out.stride + static_cast<int64_t>(blockIdx.x);
    const_cast<float*>(out.scale)[block] = bad ? nan : f16_to_float(float_to_f16(d));
    const_cast<float*>(out.weighted)[block] = bad ? nan : weighted;
  }
}

CRIA_DEVICE void quantize_q8_k(const SourceRow& row, int64_t chunk, int64_t at, const Activations& out) {
  const int lane = lane_in_warp(), unit = lane / 2, t = unit % 4;
  const int group = unit / 4 * 2 + lane % 2, first = group * 32 + t * 4;
  const LaneColumns x(row, chunk * 256 + first);
  const uint32_t magnitude = warp_max(x.max_magnitude());
  // The value of the largest magnitude; the first of equal ones.
  uint32_t index = 256;
  for (int i = 7; i >= 0; i--)
    if ((bits_of(x.v[i]) & 0x7fffffffu) == magnitude)
      index = static_cast<uint32_t>(first + i % 4 + i / 4 * 16);
  index = warp_min(index);
  float mine = 0.0f;
  for (int i = 0; i < 8; i++)
    if (static_cast<uint32_t>(first + i % 4 + i / 4 * 16) == index) mine = x.v[i];
  const int owner = static_cast<int>(index / 64 * 8 + index % 16 / 4 * 2 + index / 32 % 2);
  const float extreme = __shfl_sync(kFullWarp, mine, owner);
  const bool bad = magnitude >= kInfinityBits;
  const float inverse = magnitude == 0 || bad ? 0.0f : -127.0f / extreme;
  const bool usable = inverse != 0.0f && (bits_of(inverse) & 0x7fffffffu) < kInfinityBits;
  int q[8], sum0 = 0, sum1 = 0;
  for (int i = 0; i < 8; i++) {
    q[i] = usable ? min(127, __float2int_rn(inverse * x.v[i])) : 0;
    (i < 4 ? sum0 : sum1) += q[i];
  }
  *reinterpret_cast<uint2*>(const_cast<uint8_t*>(out.q) + at * 256 + lane * 8) = pack_bytes(q);
  for (int step = 2; step <= 4; step *= 2) {
    sum0 += __shfl_xor_sync(kFullWarp, sum0, step);
    sum1 += __shfl_xor_sync(kFullWarp, sum1, step);
  }
  if (t == 0) {
    // Sums 2 * group and 2 * group + 1, as bytes of their low seven bits and of the rest (multiply_mins).
    uint8_t* sums = const_cast<uint8_t*>(out.sums) + at * kSumBytes + group / 2 * 8 + group % 2 * 2;
    *reinterpret_cast<uint16_t*>(sums) = static_cast<uint16_t>((sum0 & 127) | (sum1 & 127) << 8);
    *reinterpret_cast<uint16_t*>(sums + 4) =
        static_cast<uint16_t>(((sum0 >> 7) & 255) | ((sum1 >> 7) & 255) << 8);
  }
  if (lane == 0)
    const_cast<float*>(out.scale)[chunk * out.stride + static_cast<int64_t>(blockIdx.x)] =
        bad      ? float_of_bits(kNanBits)
        : usable ? 1.0f / inverse
                 : 0.0f;
}

/// A warp rounds four chunks of 64 columns to 16-bit floats; a lane writes a unit of 16 bytes.
template <bool kBf16>
CRIA_DEVICE void round_16_bits(const SourceRow& row, int64_t chunk, int64_t n_chunks, int64_t at,
                               const Activations& out) {
  const int lane = lane_in_warp(), unit = lane % 8;
  chunk = chunk * 4 + lane / 8;
  if (chunk >= n_chunks) return;
  uint32_t word[4];
  for (int i = 0; i < 4; i++) {
    const int64_t col = chunk * 64 + (unit / 4 * 2 + i / 2) * 16 + unit % 4 * 2 + i % 2 * 8;
    const float low = row.at(col), high = row.at(col + 1);
    word[i] = kBf16 ? static_cast<uint32_t>(float_to_bf16(low)) | static_cast<uint32_t>(float_to_bf16(high))
                                                                      << 16
                    : pack_f16x2(low, high);
  }
  *reinterpret_cast<uint4*>(const_cast<uint8_t*>(out.q) + (at + chunk) * 128 + unit * 16) =
      make_uint4(word[0], word[1], word[2], word[3]);
}

CRIA_DEVICE void reorder_f32(const SourceRow& row, int64_t chunk, int64_t n_chunks, int64_t at,
                             const Activations& out) {
  const int lane = lane_in_warp(), chain = lane % 16;
  for (int i = 0; i < 2; i++) {
    const int64_t mine = chunk * 4 + i * 2 + lane / 16, col = mine * 64 + chain;
    if (mine >= n_chunks) continue;
    *reinterpret_cast<float4*>(const_cast<uint8_t*>(out.q) + (at + mine) * 256 + chain * 16) =
        make_float4(row.at(col), row.at(col + 16), row.at(col + 32), row.at(col + 48));
  }
}

}  // namespace

// Block (token, part), of row source[token] of x unless source is null; each warp takes every eighth run of
// 256 columns. With a norm there is one part per token, and the sum of squares has the order of
// rms_norm_kernel.
static __global__ void __launch_bounds__(kQuantizeThreads)
    quantize_activations_kernel(const float* x, const float* norm, float eps, const int32_t* source,
                                int64_t cols, int form, Activations out) {
  QuantizeShared& shared = shared_memory<QuantizeShared>();
  const int64_t token = blockIdx.x, from = source ? source[token] : token;
  if (from < 0) return;
  SourceRow row{.x = x + from * cols, .norm = norm, .scale = 1.0f, .cols = cols};
  if (norm) {
    float squares = 0.0f;
    for (int64_t i = thread_in_block(); i < cols; i += kQuantizeThreads)
      squares = fmaf(row.x[i], row.x[i], squares);
    const float mean = block_sum(squares, shared.sum) / static_cast<float>(cols);
    row.scale = 1.0f / sqrtf(mean + eps);
  }
  const auto kind = static_cast<ActivationForm>(form);
  const int64_t n_chunks = activation_chunks(kind, cols), at = token * n_chunks;
  for (int64_t run = static_cast<int64_t>(blockIdx.y) * kQuantizeWarps + warp_in_block(); run * 256 < cols;
       run += static_cast<int64_t>(gridDim.y) * kQuantizeWarps) {
    if (kind == ActivationForm::q8_k)
      quantize_q8_k(row, run, at + run, out);
    else if (kind == ActivationForm::q8_0)
      quantize_q8_0(row, run, at + run, out);
    else if (kind == ActivationForm::bf16)
      round_16_bits<true>(row, run, n_chunks, at, out);
    else if (kind == ActivationForm::f16)
      round_16_bits<false>(row, run, n_chunks, at, out);
    else
      reorder_f32(row, run, n_chunks, at, out);
  }
}

ActivationForm activation_form(DType weight) { return form_of_activations(weight_form(weight)); }

std::size_t activation_bytes(ActivationForm form, std::int32_t n_tokens, std::int64_t cols) {
  size_t bytes = 0;
  divide_activations(form, nullptr, n_tokens, cols, &bytes);
  return bytes;
}

namespace {

void launch_quantize(ActivationForm form, const float* x, const float* norm, float eps,
                     const std::int32_t* source, std::int32_t n_tokens, std::int64_t cols, void* activations,
                     Stream stream) {
  if (n_tokens <= 0) return;
  const Activations out = divide_activations(form, activations, n_tokens, cols);
  const auto parts = static_cast<unsigned>((cols + 256 * kQuantizeWarps - 1) / (256 * kQuantizeWarps));
  launch({.name = norm ? "rms_norm_quantize" : "quantize_activations",
          .grid = {static_cast<unsigned>(n_tokens), norm ? 1 : parts},
          .block = {kQuantizeThreads},
          .stream = stream},
         quantize_activations_kernel, x, norm, eps, source, cols, static_cast<int>(form), out);
}

}  // namespace

void quantize_activations(ActivationForm form, const float* x, std::int32_t n_tokens, std::int64_t cols,
                          void* activations, Stream stream) {
  launch_quantize(form, x, nullptr, 0.0f, nullptr, n_tokens, cols, activations, stream);
}

void rms_norm_quantize(ActivationForm form, const float* x, const float* norm, float eps,
                       std::int32_t n_tokens, std::int64_t cols, void* activations, Stream stream) {
  launch_quantize(form, x, norm, eps, nullptr, n_tokens, cols, activations, stream);
}

void rms_norm_quantize_rows(ActivationForm form, const float* x, const float* norm, float eps,
                            const std::int32_t* source, std::int32_t n_rows, std::int64_t cols,
                            void* activations, Stream stream) {
  launch_quantize(form, x, norm, eps, source, n_rows, cols, activations, stream);
}

}  // namespace cria::cuda
