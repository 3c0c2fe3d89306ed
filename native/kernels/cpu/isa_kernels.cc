// One instruction set's table of kernels. Compiled once per level (cmake/isa.cmake) and once in plain C++.
#include "kernels/cpu/activations.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/quantize_weights.h"
#include "kernels/cpu/rmsnorm.h"
#include "kernels/cpu/rope.h"
#include "kernels/cpu/sample.h"
#include "kernels/cpu/softmax.h"
#include "kernels/cpu/swiglu.h"

namespace cria::CRIA_ISA {

#define CRIA_STRING_(x) #x
#define CRIA_STRING(x) CRIA_STRING_(x)

extern const CpuKernels kernels;
const CpuKernels kernels = {
    .isa = CRIA_STRING(CRIA_ISA),
    .rms_norm = rms_norm,
    .rope = rope,
    .append_kv = append_kv,
    .attend = attend,
    .merge_softmax = merge_softmax,
    .silu_mul = silu_mul,
    .quantize_q8_0 = quantize_q8_0,
    .quantize_q8_k = quantize_q8_k,
    .round_f16 = round_f16,
    .round_bf16 = round_bf16,
    .quantize_weights = quantize_weights,
    .repack = repack,
    .matmul_scratch_bytes = matmul_scratch_bytes,
    .matmul = matmul,
    .gate_up = gate_up,
    .argmax = argmax,
    .rms_norm_stream = rms_norm_stream,
    .add_rms_norm = add_rms_norm,
    .add_rms_norm_stream = add_rms_norm_stream,
    .rope_to = rope_to,
    .rope_stream = rope_stream,
    .silu_mul_stream = silu_mul_stream,
    .softmax = softmax,
    .softmax_stream = softmax_stream,
};

}  // namespace cria::CRIA_ISA
