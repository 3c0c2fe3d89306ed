// The tensors of a Llama under their three names. Sources: llama.cpp, gguf-py/gguf/constants.py; Hugging Face
// transformers, models/llama/modeling_llama.py; Meta, llama/model.py.
#pragma once

#include <cstdint>
#include <string_view>

namespace cria {

/// How Meta divides a tensor among model-parallel shards.
enum class MetaSplit : std::uint8_t {
  none,       // every shard has all of it
  rows,       // ColumnParallelLinear: by outputs, the rows
  cols,       // RowParallelLinear: by inputs, the columns
  embedding,  // by columns until Llama 2, by rows since Llama 3
};

struct LlamaTensorName {
  std::string_view gguf, hf, meta;  // without ".weight"; of a layer's tensor, what follows the layer's prefix
  MetaSplit split;
};

inline constexpr LlamaTensorName kEmbeddingName = {"token_embd", "model.embed_tokens", "tok_embeddings",
                                                   MetaSplit::embedding};
inline constexpr LlamaTensorName kOutputNormName = {"output_norm", "model.norm", "norm", MetaSplit::none};
inline constexpr LlamaTensorName kOutputName = {"output", "lm_head", "output", MetaSplit::rows};

/// In order of use. The prefixes of a layer: "blk.N.", "model.layers.N.", "layers.N.".
inline constexpr LlamaTensorName kLayerNames[] = {
    {"attn_norm", "input_layernorm", "attention_norm", MetaSplit::none},
    {"attn_q", "self_attn.q_proj", "attention.wq", MetaSplit::rows},
    {"attn_k", "self_attn.k_proj", "attention.wk", MetaSplit::rows},
    {"attn_v", "self_attn.v_proj", "attention.wv", MetaSplit::rows},
    {"attn_output", "self_attn.o_proj", "attention.wo", MetaSplit::cols},
    {"ffn_norm", "post_attention_layernorm", "ffn_norm", MetaSplit::none},
    {"ffn_gate", "mlp.gate_proj", "feed_forward.w1", MetaSplit::rows},
    {"ffn_up", "mlp.up_proj", "feed_forward.w3", MetaSplit::rows},
    {"ffn_down", "mlp.down_proj", "feed_forward.w2", MetaSplit::cols},
};

}  // namespace cria
