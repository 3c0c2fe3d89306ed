// Every block format: its bytes as a plain struct, exactly as they lie in a GGUF file (little endian, no
// padding), and beside them all that the library knows of the format. Source of the bytes: the block formats
// of GGML ("ggml-common.h") as the GGUF specification names them.
//
// Notation below: element e of the block; `d`, `m`, `dmin`, `s` are binary16 bits unless said otherwise. A
// format's value is written with the order of float operations that BlockValues uses; integers become
// float32 first.
//
// What a weight format states:
//
//   kType              its DType
//   kElements, kGroup  elements of a block, and of a group, which share a scale
//   kHasMin            whether a term is added to (blocks of 32) or subtracted from (super-blocks) d * q
//   kForm              how CUDA holds it (kernels/cuda/matmul_pack.h)
//   kHeaderDword       of the block's dwords, the first of those that the CPU's panels hold first: the scales
//                      (kernels/cpu/repack.h)
//   kPanelBits         bits of a weight where panels hold whole weights (kernels/cpu/bit_layout.h), with
//                      bit_layout(); 0 where they hold the file's dwords
//   quant(s, j)        element 16 s + j before its scale, the offset of the format taken off
//   scale(g), min(g)   the integers of group g, of formats that have them
//   block_scale()      the block's float scale, where it is more than the half d
//   Values, code(e)    formats with few values: the codebook, and element e's code in it
//
// Formats whose files are not what the CPU's panels hold have no kHeaderDword and kPanelBits: what they
// become does (kernels/cpu/panel_blocks.h).
//
// visit_dtype() turns a DType at run time into one of these structs. Scales are unpacked by templates over
// the lane: a byte or a word on host and device, the same of sixteen rows in the CPU's kernels.
//
// No STL and only internal linkage: this header is compiled once per instruction set (see cmake/isa.cmake).
#pragma once

#include "kernels/blocks_32.h"
#include "kernels/blocks_iq.h"
#include "kernels/blocks_k.h"

namespace cria {

// ---- by DType ----

/// What a visitor of visit_dtype() is called with.
template <class T>
struct Format {
  using Block = T;
};

/// f(Format<Block>()) for the block struct of `dtype`: the only switch over formats.
#ifdef __CUDACC__
#pragma nv_exec_check_disable  // host code calls it with functions of the host, device code with the device's
#endif
template <class F>
CRIA_BLOCK_FUNCTION constexpr auto visit_dtype(DType dtype, F f) {
  switch (dtype) {
    case DType::f32: break;
    case DType::f16: return f(Format<ElementF16>());
    case DType::bf16: return f(Format<ElementBF16>());
    case DType::q4_0: return f(Format<BlockQ4_0>());
    case DType::q4_1: return f(Format<BlockQ4_1>());
    case DType::q5_0: return f(Format<BlockQ5_0>());
    case DType::q5_1: return f(Format<BlockQ5_1>());
    case DType::q8_0: return f(Format<BlockQ8_0>());
    case DType::q8_1: return f(Format<BlockQ8_1>());
    case DType::q2_k: return f(Format<BlockQ2_K>());
    case DType::q3_k: return f(Format<BlockQ3_K>());
    case DType::q4_k: return f(Format<BlockQ4_K>());
    case DType::q5_k: return f(Format<BlockQ5_K>());
    case DType::q6_k: return f(Format<BlockQ6_K>());
    case DType::q8_k: return f(Format<BlockQ8_K>());
    case DType::iq1_s: return f(Format<BlockIQ1_S>());
    case DType::iq1_m: return f(Format<BlockIQ1_M>());
    case DType::iq2_xxs: return f(Format<BlockIQ2_XXS>());
    case DType::iq2_xs: return f(Format<BlockIQ2_XS>());
    case DType::iq2_s: return f(Format<BlockIQ2_S>());
    case DType::iq3_xxs: return f(Format<BlockIQ3_XXS>());
    case DType::iq3_s: return f(Format<BlockIQ3_S>());
    case DType::tq1_0: return f(Format<BlockTQ1_0>());
    case DType::tq2_0: return f(Format<BlockTQ2_0>());
    case DType::mxfp4: return f(Format<BlockMXFP4>());
    case DType::nvfp4: return f(Format<BlockNVFP4>());
    case DType::q1_0: return f(Format<BlockQ1_0>());
    case DType::q2_0: return f(Format<BlockQ2_0>());
    case DType::iq4_nl: return f(Format<BlockIQ4_NL>());
    case DType::iq4_xs: return f(Format<BlockIQ4_XS>());
  }
  return f(Format<ElementF32>());
}

// ---- values ----

/// Values of blocks. `Machine` supplies float from_f16(uint16_t bits), which host and device spell
/// differently.
template <class Machine, class Block>
struct BlockValues {
  /// A scale, and what is added (blocks of 32) or subtracted (super-blocks) where the format has mins.
  struct Affine {
    float scale, min;
  };
  static CRIA_BLOCK_CODE Affine of_block(const Block& b) {
    Affine a{0.0f, 0.0f};
    if constexpr (requires { b.template block_scale<Machine>(); })
      a.scale = b.template block_scale<Machine>();
    else
      a.scale = Machine::from_f16(b.d);
    if constexpr (requires { b.m; }) a.min = Machine::from_f16(b.m);
    if constexpr (requires { b.dmin; }) a.min = Machine::from_f16(b.dmin);
    return a;
  }
  static CRIA_BLOCK_CODE Affine of_group(Affine block, const Block& b, int g) {
    if constexpr (requires { b.scale(g); }) block.scale = block.scale * static_cast<float>(b.scale(g));
    if constexpr (requires { b.min(g); }) block.min = block.min * static_cast<float>(b.min(g));
    return block;
  }
  static CRIA_BLOCK_CODE float value(Affine group, int quant) {
    const float product = group.scale * static_cast<float>(quant);
    if constexpr (!Block::kHasMin) return product;
    return Block::kElements == kBlockSize ? product + group.min : product - group.min;
  }
  /// Element e of a block.
  static CRIA_BLOCK_CODE float element(const Block& b, int e) {
    return value(of_group(of_block(b), b, e / Block::kGroup), b.quant(e / 16, e % 16));
  }
};

}  // namespace cria
