// Products by one thread an output: right, plain and slow.
#include "kernels/cuda/matmul_weights.cuh"
#include "kernels/cuda/silu.cuh"

namespace cria::cuda {
namespace {

constexpr int kPlainThreads = 128;

/// One output: row r of the tile, by the order of docs/gpu-matmul.md.
template <WeightForm kForm>
CRIA_DEVICE float plain_product(const uint8_t* tile, int r, const Activations& x, int64_t token,
                                int64_t cols) {
  constexpr WeightLayout layout = weight_layout(kForm);
  constexpr ActivationForm form = form_of_activations(kForm);
  const int64_t chunks = chunks_of(kForm, cols);
  float acc = 0.0f;
  [[maybe_unused]] float chains[16] = {};
  for (int64_t i = 0; i < chunks; i++) {
    const uint8_t* w = tile + i * layout.chunk_bytes;
    const int64_t at = token * chunks + i;
    const uint8_t* q = x.q + at * activation_chunk_bytes(form);
    if constexpr (kForm == WeightForm::f32) {
      for (int c = 0; c < 64; c++)
        chains[c % 16] = fmaf(value_at<kForm>(w, r, c),
                              *reinterpret_cast<const float*>(q + c % 16 * 16 + c / 16 * 4), chains[c % 16]);
    } else if constexpr (form != ActivationForm::q8_0 && form != ActivationForm::q8_k) {
      float sum = 0.0f;
      for (int c = 0; c < 64; c++) {
        const int step = c / 16, unit = step / 2 * 4 + c % 8 / 2;
        const uint16_t bits =
            *reinterpret_cast<const uint16_t*>(q + unit * 16 + step % 2 * 8 + c % 16 / 8 * 4 + c % 2 * 2);
        sum = fmaf(value_at<kForm>(w, r, c),
                   kForm == WeightForm::f16 ? f16_to_float(bits) : bf16_to_float(bits), sum);
      }
      acc += sum;
    } else {
      const auto byte_at = [&](int c) {
        const int k = c % 32;
        return static_cast<int>(
            static_cast<int8_t>(q[(c / 64 * 4 + k % 16 / 4) * 16 + c / 32 % 2 * 8 + k / 16 * 4 + k % 4]));
      };
      const uint8_t* scales = w + layout.scales + r * layout.scale_bytes;
      int total = 0, mins = 0;
      for (int g = 0; g < 16; g++) {
        int sum = 0;
        for (int c = 16 * g; c < 16 * g + 16; c++) sum += quant_at<kForm>(w, r, c) * byte_at(c);
        if constexpr (form == ActivationForm::q8_0) {
          total += sum;
          if (g % 2 == 0 || i * 256 + g * 16 >= cols) continue;
          acc = fmaf(half_at(scales + g / 2 * 2) * x.scale[at * 8 + g / 2], static_cast<float>(total), acc);
          if constexpr (kForm == WeightForm::q8_min)
            acc = fmaf(half_at(w + layout.mins + r * 16 + g / 2 * 2), x.weighted[at * 8 + g / 2], acc);
          total = 0;
        } else {
          const uint8_t* sums = x.sums + at * kSumBytes + g / 4 * 8 + g % 4;
          const int sum_x = sums[0] + static_cast<int8_t>(sums[4]) * 128;
          if constexpr (kForm == WeightForm::k8 || kForm == WeightForm::k6) {
            total += static_cast<int8_t>(scales[g]) * sum;
          } else if constexpr (kForm == WeightForm::k8_min) {
            total += scales[g] * sum;
            mins += w[layout.mins + r * 16 + g] * sum_x;
          } else {
            total += six_bits(scales + 4, g / 2, 0) * sum;
            mins += six_bits(scales + 4, g / 2, 1) * sum_x;
          }
        }
      }
      if constexpr (form == ActivationForm::q8_k) {
        const float dx = x.scale[at], s = static_cast<float>(total);
        if constexpr (kForm == WeightForm::k8 || kForm == WeightForm::k6) {
          acc = fmaf(half_at(w + layout.blocks + r * 2) * dx, s, acc);
        } else {
          const uint8_t* d = kForm == WeightForm::k8_min ? w + layout.blocks + r * 4 : scales;
          acc = fmaf(dx, fmaf(-half_at(d + 2), static_cast<float>(mins), half_at(d) * s), acc);
        }
      }
    }
  }
  if constexpr (kForm == WeightForm::f32) {
    for (int step = 8; step; step /= 2)
      for (int i = 0; i < step; i++) chains[i] = chains[i] + chains[i + step];
    return chains[0];
  }
  return acc;
}

}  // namespace

template <WeightForm kForm>
static __global__ void __launch_bounds__(kPlainThreads)
    plain_matmul_kernel(const uint8_t* w, Activations x, float* y, int64_t rows, int64_t cols,
                        int64_t y_stride, int epilogue) {
  const int64_t r = static_cast<int64_t>(blockIdx.x) * kPlainThreads + thread_in_block(), token = blockIdx.y;
  if (r >= rows) return;
  const int64_t tile_bytes = chunks_of(kForm, cols) * weight_layout(kForm).chunk_bytes;
  float* out = y + token * y_stride + r;
  if (static_cast<Epilogue>(epilogue) == Epilogue::swiglu) {
    const uint8_t* tile = w + r / 8 * tile_bytes;
    const float gate = plain_product<kForm>(tile, static_cast<int>(r % 8), x, token, cols);
    const float up = plain_product<kForm>(tile, static_cast<int>(r % 8 + 8), x, token, cols);
    *out = silu(gate) * up;
  } else {
    const float product =
        plain_product<kForm>(w + r / kTileRows * tile_bytes, static_cast<int>(r % kTileRows), x, token, cols);
    *out = static_cast<Epilogue>(epilogue) == Epilogue::add ? *out + product : product;
  }
}

namespace {

template <WeightForm kForm>
void launch_plain(const MatmulArgs& a, Stream stream) {
  const Activations x =
      divide_activations(form_of_activations(kForm), a.activations, a.n_tokens, a.weight.cols);
  launch({.name = "matmul",
          .grid = {static_cast<unsigned>((a.weight.rows + kPlainThreads - 1) / kPlainThreads),
                   static_cast<unsigned>(a.n_tokens)},
          .block = {kPlainThreads},
          .stream = stream},
         plain_matmul_kernel<kForm>, static_cast<const uint8_t*>(a.weight.data), x, a.y, a.weight.rows,
         a.weight.cols, a.y_stride, static_cast<int>(a.epilogue));
}

}  // namespace

MatmulDevice prepare_matmul(const DeviceProperties& properties) {
  return {properties.multiprocessors, properties.shared_per_block};
}

void matmul(const MatmulDevice&, const MatmulArgs& args, Stream stream) {
  if (args.n_tokens <= 0) return;
  switch (weight_form(args.weight.dtype)) {
    case WeightForm::f32: return launch_plain<WeightForm::f32>(args, stream);
    case WeightForm::f16: return launch_plain<WeightForm::f16>(args, stream);
    case WeightForm::bf16: return launch_plain<WeightForm::bf16>(args, stream);
    case WeightForm::q8: return launch_plain<WeightForm::q8>(args, stream);
    case WeightForm::q8_min: return launch_plain<WeightForm::q8_min>(args, stream);
    case WeightForm::q4: return launch_plain<WeightForm::q4>(args, stream);
    case WeightForm::k8: return launch_plain<WeightForm::k8>(args, stream);
    case WeightForm::k8_min: return launch_plain<WeightForm::k8_min>(args, stream);
    case WeightForm::k4: return launch_plain<WeightForm::k4>(args, stream);
    case WeightForm::k5: return launch_plain<WeightForm::k5>(args, stream);
    case WeightForm::k6: return launch_plain<WeightForm::k6>(args, stream);
  }
}

}  // namespace cria::cuda
