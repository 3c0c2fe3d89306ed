// A LoRA adapter with random values, as a GGUF file.
#pragma once

#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include "io/gguf_builder.h"
#include "model/config.h"

namespace cria::test {

inline std::vector<std::uint8_t> random_values(std::mt19937& random, std::uint64_t n, float size) {
  std::uniform_real_distribution<float> value(-size, size);
  std::vector<float> values(n);
  for (float& v : values) v = value(random);
  return float_bytes(values);
}

/// An adapter of every projection of every layer.
inline GgufBuilder random_adapter(const ModelConfig& config, std::uint32_t seed, std::uint64_t rank,
                                  float alpha) {
  std::mt19937 random(seed);
  GgufBuilder gguf;
  gguf.set("general.type", "adapter").set("general.architecture", config.architecture);
  gguf.set("adapter.type", "lora").set("adapter.lora.alpha", alpha);
  const std::uint64_t q = std::uint64_t{config.n_heads} * config.head_dim;
  const std::uint64_t kv = std::uint64_t{config.n_kv_heads} * config.head_dim;
  const auto add = [&](const std::string& name, std::uint64_t rows, std::uint64_t cols) {
    gguf.tensor({name + ".lora_a", {cols, rank}, 0, random_values(random, cols * rank, 0.2f)});
    gguf.tensor({name + ".lora_b", {rank, rows}, 0, random_values(random, rank * rows, 0.2f)});
  };
  for (std::uint32_t layer = 0; layer < config.n_layers; layer++) {
    const std::string blk = numbered("blk.", layer) + ".";
    add(blk + "attn_q.weight", q, config.hidden);
    add(blk + "attn_k.weight", kv, config.hidden);
    add(blk + "attn_v.weight", kv, config.hidden);
    add(blk + "attn_output.weight", config.hidden, q);
    add(blk + "ffn_gate.weight", config.ffn_hidden, config.hidden);
    add(blk + "ffn_up.weight", config.ffn_hidden, config.hidden);
    add(blk + "ffn_down.weight", config.hidden, config.ffn_hidden);
  }
  return gguf;
}

inline std::string write_file(const std::filesystem::path& path, const std::vector<std::uint8_t>& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return path;
}

}  // namespace cria::test
