// Weights and activations in the device's memory, as kernels see them.
#pragma once

#include "kernels/cuda/matmul.h"
#include "kernels/cuda/matmul_pack.h"
#include "kernels/cuda/ptx.cuh"

namespace cria::cuda {

CRIA_HOST_DEVICE constexpr ActivationForm form_of_activations(WeightForm form) {
  switch (form) {
    case WeightForm::f32: return ActivationForm::f32;
    case WeightForm::f16: return ActivationForm::f16;
    case WeightForm::bf16: return ActivationForm::bf16;
    case WeightForm::q8:
    case WeightForm::q8_min:
    case WeightForm::q4:
    case WeightForm::s4: return ActivationForm::q8_0;
    default: return ActivationForm::q8_k;
  }
}

/// Arrays of a buffer of activations.
struct Activations {
  /// [n, chunks, kActivationChunkBytes]; 16-bit floats [n, chunks, 128].
  const uint8_t* q;
  /// q8_k: [n, chunks, kSumBytes].
  const uint8_t* sums;
  /// q8_k: [chunks, stride]; q8_0: [chunks, 8, stride], of blocks of 32.
  const float* scale;
  /// q8_0: as scale; scale times sum, rounded to f16.
  const float* weighted;
  /// n rounded up to a multiple of 4. The elements beyond n are undefined.
  int64_t stride;
};

CRIA_HOST_DEVICE constexpr int activation_chunk_cols(ActivationForm form) {
  return form == ActivationForm::q8_0 || form == ActivationForm::q8_k ? 256 : 64;
}
CRIA_HOST_DEVICE constexpr int activation_chunk_bytes(ActivationForm form) {
  return form == ActivationForm::f16 || form == ActivationForm::bf16 ? 128 : kActivationChunkBytes;
}
CRIA_HOST_DEVICE constexpr int64_t activation_chunks(ActivationForm form, int64_t cols) {
  return (cols + activation_chunk_cols(form) - 1) / activation_chunk_cols(form);
}

/// Divides a buffer into its arrays; host and device alike. Every part is a multiple of 16 bytes.
inline Activations divide_activations(ActivationForm form, const void* buffer, int64_t n_tokens, int64_t cols,
                                      size_t* bytes = nullptr) {
  const int64_t row_chunks = activation_chunks(form, cols), stride = (n_tokens + 3) / 4 * 4;
  const auto chunks = static_cast<size_t>(n_tokens * row_chunks);
  Activations a{};
  a.stride = stride;
  size_t used = 0;
  const auto take = [&](size_t n) {
    const auto* part = reinterpret_cast<const uint8_t*>(reinterpret_cast<uintptr_t>(buffer) + used);
    used += (n + 15) / 16 * 16;
    return part;
  };
  a.q = take(chunks * static_cast<size_t>(activation_chunk_bytes(form)));
  if (form == ActivationForm::q8_k) {
    a.sums = take(chunks * kSumBytes);
    a.scale = reinterpret_cast<const float*>(take(static_cast<size_t>(row_chunks * stride) * sizeof(float)));
  } else if (form == ActivationForm::q8_0) {
    a.scale =
        reinterpret_cast<const float*>(take(static_cast<size_t>(row_chunks * 8 * stride) * sizeof(float)));
    a.weighted =
        reinterpret_cast<const float*>(take(static_cast<size_t>(row_chunks * 8 * stride) * sizeof(float)));
  }
  if (bytes) *bytes = used;
  return a;
}

/// The activations from row `first` on.
template <ActivationForm kForm>
CRIA_DEVICE Activations rows_from(const Activations& x, int64_t first, int64_t row_chunks) {
  Activations rest = x;
  rest.q += first * row_chunks * activation_chunk_bytes(kForm);
  if constexpr (kForm == ActivationForm::q8_k) rest.sums += first * row_chunks * kSumBytes;
  if constexpr (kForm == ActivationForm::q8_k || kForm == ActivationForm::q8_0) rest.scale += first;
  if constexpr (kForm == ActivationForm::q8_0) rest.weighted += first;
  return rest;
}

/// In a kernel of a product: turns its arguments into those of a group. False: the group has no rows.
template <ActivationForm kForm>
CRIA_DEVICE bool select_group(const RowGroups& groups, int index, int64_t row_chunks, const uint8_t*& weights,
                              Activations& x, int& n_tokens, float*& y, int64_t y_stride) {
  const RowGroup group = groups.groups[index];
  weights += group.matrix * groups.matrix_stride;
  x = rows_from<kForm>(x, group.first_row, row_chunks);
  n_tokens = group.n_rows;
  y += group.first_row * y_stride;
  return group.n_rows > 0;
}

// ---- single elements: for the embedding, and for plain kernels ----

/// The byte offset in a chunk of 256 columns of the register that holds column c of row r, without its byte.
CRIA_DEVICE int register_offset(int r, int c) {
  const int k = c % 32;
  return (r % 8 * 4 + k % 16 / 4) * 16 + (r / 8 + 2 * (k / 16)) * 4;
}

/// The quant, with the offset of the file's format taken off.
template <WeightForm kForm>
CRIA_DEVICE int quant_at(const uint8_t* chunk, int r, int c) {
  const int at = register_offset(r, c) + c % 4, group = c / 32;
  if constexpr (kForm == WeightForm::q8 || kForm == WeightForm::q8_min || kForm == WeightForm::k8 ||
                kForm == WeightForm::k8_min) {
    return static_cast<int8_t>(chunk[group * 512 + at]);
  } else {
    int q = chunk[group / 2 * 512 + at] >> (group % 2 * 4) & 15;
    if constexpr (has_codes(kForm)) return static_cast<int8_t>(chunk[weight_layout(kForm).book + q]);
    const int lane = r % 8 * 4 + c % 16 / 4, reg = r / 8 + 2 * (c % 32 / 16);
    if constexpr (kForm == WeightForm::q4) q = (q ^ 8) - 8;
    if constexpr (kForm == WeightForm::k5)
      q |= (chunk[2048 + lane * 16 + group / 2 * 4 + c % 4] >> (2 * reg + group % 2) & 1) << 4;
    if constexpr (kForm == WeightForm::k6) {
      q |= (chunk[2048 + group / 4 * 512 + lane * 16 + group % 4 * 4 + c % 4] >> (2 * reg) & 3) << 4;
      q = (q ^ 32) - 32;
    }
    return q;
  }
}

CRIA_DEVICE float half_at(const uint8_t* p) { return f16_to_float(*reinterpret_cast<const uint16_t*>(p)); }

/// A scale of form s4.
CRIA_DEVICE float scale16_of(uint16_t bits, bool bf16) {
  return bf16 ? bf16_to_float(bits) : f16_to_float(bits);
}
/// Whether a chunk of form s4 has scales in bfloat16.
CRIA_DEVICE bool has_bf16_scales(const uint8_t* chunk) {
  return *reinterpret_cast<const uint32_t*>(chunk + weight_layout(WeightForm::s4).book + 16) != 0;
}

/// The value, by the operations of the CPU's dequantize_row.
template <WeightForm kForm>
CRIA_DEVICE float value_at(const uint8_t* chunk, int r, int c) {
  constexpr WeightLayout layout = weight_layout(kForm);
  if constexpr (kForm == WeightForm::f32) {
    return *reinterpret_cast<const float*>(chunk + r * 256 + c % 16 * 16 + c / 16 * 4);
  } else if constexpr (kForm == WeightForm::f16 || kForm == WeightForm::bf16) {
    const int at = c / 16 * 512 + (r % 8 * 4 + c % 8 / 2) * 16 + (r / 8 + 2 * (c % 16 / 8)) * 4 + c % 2 * 2;
    const uint16_t bits = *reinterpret_cast<const uint16_t*>(chunk + at);
    return kForm == WeightForm::f16 ? f16_to_float(bits) : bf16_to_float(bits);
  } else {
    const float q = static_cast<float>(quant_at<kForm>(chunk, r, c));
    const uint8_t* scales = chunk + layout.scales + r * layout.scale_bytes;
    if constexpr (kForm == WeightForm::q8 || kForm == WeightForm::q4) {
      return half_at(scales + c / 32 * 2) * q;
    } else if constexpr (kForm == WeightForm::s4) {
      return scale16_of(reinterpret_cast<const uint16_t*>(scales)[c / 16], has_bf16_scales(chunk)) * q;
    } else if constexpr (kForm == WeightForm::c4) {
      const float d = *reinterpret_cast<const float*>(chunk + layout.blocks + r * 4);
      return d * static_cast<float>(static_cast<int8_t>(scales[c / 16])) * q;
    } else if constexpr (kForm == WeightForm::q8_min) {
      return half_at(scales + c / 32 * 2) * q + half_at(chunk + layout.mins + r * 16 + c / 32 * 2);
    } else if constexpr (kForm == WeightForm::k8 || kForm == WeightForm::k6) {
      const float scale = static_cast<float>(static_cast<int8_t>(scales[c / 16]));
      return half_at(chunk + layout.blocks + r * 2) * scale * q;
    } else if constexpr (kForm == WeightForm::k8_min) {
      const float min = half_at(chunk + layout.blocks + r * 4 + 2) *
                        static_cast<float>(chunk[layout.mins + r * 16 + c / 16]);
      return half_at(chunk + layout.blocks + r * 4) * static_cast<float>(scales[c / 16]) * q - min;
    } else {
      const PackedBytes packed{scales + 4};
      const float min = half_at(scales + 2) * static_cast<float>(k4_scale_bits<true>(packed, c / 32) & 63);
      return half_at(scales) * static_cast<float>(k4_scale_bits<false>(packed, c / 32) & 63) * q - min;
    }
  }
}

}  // namespace cria::cuda
