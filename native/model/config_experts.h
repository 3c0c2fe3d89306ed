// Mixtures of experts in a GGUF of architecture "llama" (Mixtral): their keys and the names of their tensors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "model/config.h"

namespace cria {

/// The experts' matrices of a layer are one stacked tensor `stacked`.weight, [n_experts, rows, cols], or in
/// older files one tensor an expert, expert_tensor_name(part, 0), ...
struct ExpertTensor {
  std::string_view stacked, part;  // after "blk.N."
};
inline constexpr ExpertTensor kGateExperts{.stacked = "ffn_gate_exps", .part = "ffn_gate"};
inline constexpr ExpertTensor kUpExperts{.stacked = "ffn_up_exps", .part = "ffn_up"};
inline constexpr ExpertTensor kDownExperts{.stacked = "ffn_down_exps", .part = "ffn_down"};

/// "ffn_gate.3.weight" for expert 3.
std::string expert_tensor_name(std::string_view part, std::uint32_t expert);

/// Whether a layer's tensor, named without "blk.N.", is that of one expert below `n_experts`.
bool is_expert_tensor(std::string_view name, std::uint32_t n_experts);

/// Reads expert_count and expert_used_count. As in llama.cpp, their FFNs have feed_forward_length neurons.
void read_experts(const ModelSource& file, ModelConfig* config);

}  // namespace cria
