// Writes GGUF files in memory, for the native tests. It checks nothing, since tests also write invalid files.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "io/gguf.h"

namespace cria::test {

class Bytes {
 public:
  template <typename T>
  Bytes& put(T value) {
    const auto* raw = reinterpret_cast<const std::uint8_t*>(&value);
    data.insert(data.end(), raw, raw + sizeof(T));
    return *this;
  }
  Bytes& text(const std::string& value) {
    put<std::uint64_t>(value.size());
    data.insert(data.end(), value.begin(), value.end());
    return *this;
  }
  Bytes& append(const Bytes& other) {
    data.insert(data.end(), other.data.begin(), other.data.end());
    return *this;
  }
  Bytes& pad(std::size_t alignment) {
    while (data.size() % alignment != 0) data.push_back(0);
    return *this;
  }
  std::vector<std::uint8_t> data;
};

struct TensorSpec {
  std::string name;
  std::vector<std::uint64_t> dims;
  std::uint32_t type = 0;
  std::vector<std::uint8_t> data;  // empty: zeros of the right size (F32 and cria's block types only)
};

class GgufBuilder {
 public:
  std::uint32_t version = 3;
  std::size_t alignment = 32;

  template <typename T>
  GgufBuilder& set(const std::string& key, GgufType type, T value) {
    return set_raw(key, type, Bytes().put(value));
  }
  GgufBuilder& set(const std::string& key, std::uint32_t value) { return set(key, GgufType::u32, value); }
  GgufBuilder& set(const std::string& key, float value) { return set(key, GgufType::f32, value); }
  GgufBuilder& set(const std::string& key, bool value) {
    return set(key, GgufType::boolean, static_cast<std::uint8_t>(value));
  }
  GgufBuilder& set(const std::string& key, const std::string& value) {
    return set_raw(key, GgufType::string, Bytes().text(value));
  }
  GgufBuilder& set(const std::string& key, const char* value) { return set(key, std::string(value)); }
  GgufBuilder& set_strings(const std::string& key, const std::vector<std::string>& values) {
    Bytes bytes;
    bytes.put(GgufType::string).put<std::uint64_t>(values.size());
    for (const std::string& value : values) bytes.text(value);
    return set_raw(key, GgufType::array, bytes);
  }
  template <typename T>
  GgufBuilder& set_numbers(const std::string& key, GgufType type, const std::vector<T>& values) {
    Bytes bytes;
    bytes.put(type).put<std::uint64_t>(values.size());
    for (const T value : values) bytes.put(value);
    return set_raw(key, GgufType::array, bytes);
  }
  /// Replaces the key's value, or appends the key.
  GgufBuilder& set_raw(const std::string& key, GgufType type, const Bytes& value) {
    for (auto& entry : metadata) {
      if (entry.key != key) continue;
      entry.type = type;
      entry.value = value;
      return *this;
    }
    metadata.push_back({key, type, value});
    return *this;
  }
  GgufBuilder& remove(const std::string& key) {
    std::erase_if(metadata, [&](const Entry& entry) { return entry.key == key; });
    return *this;
  }
  GgufBuilder& tensor(TensorSpec spec) {
    tensors.push_back(std::move(spec));
    return *this;
  }
  TensorSpec& tensor_named(const std::string& name) {
    for (TensorSpec& spec : tensors)
      if (spec.name == name) return spec;
    return tensors.emplace_back(TensorSpec{name, {1}});
  }
  GgufBuilder& remove_tensor(const std::string& name) {
    std::erase_if(tensors, [&](const TensorSpec& spec) { return spec.name == name; });
    return *this;
  }

  std::vector<std::uint8_t> build() const {
    Bytes out, data;
    out.data = {'G', 'G', 'U', 'F'};
    out.put(version).put<std::uint64_t>(tensors.size()).put<std::uint64_t>(metadata.size());
    for (const Entry& entry : metadata) out.text(entry.key).put(entry.type).append(entry.value);
    for (const TensorSpec& spec : tensors) {
      data.pad(alignment);
      out.text(spec.name).put<std::uint32_t>(static_cast<std::uint32_t>(spec.dims.size()));
      std::uint64_t elements = 1;
      for (const std::uint64_t dim : spec.dims) {
        out.put(dim);
        elements *= dim;
      }
      out.put(spec.type).put<std::uint64_t>(data.data.size());
      if (!spec.data.empty()) {
        data.data.insert(data.data.end(), spec.data.begin(), spec.data.end());
      } else if (const DTypeTraits* type = find_dtype(spec.type); type != nullptr) {
        data.data.resize(data.data.size() + elements / type->block_size * type->block_bytes);
      }
    }
    if (!tensors.empty()) out.pad(alignment).append(data);
    return out.data;
  }

  std::shared_ptr<const File> file(const std::string& name = "memory.gguf") const {
    return File::from_memory(name, build());
  }

  struct Entry {
    std::string key;
    GgufType type;
    Bytes value;
  };
  std::vector<Entry> metadata;
  std::vector<TensorSpec> tensors;
};

/// Opens bytes in memory as a whole model without other parts.
inline GgufFile open_bytes(std::vector<std::uint8_t> bytes, const std::string& name = "memory.gguf") {
  return GgufFile::open(File::from_memory(name, std::move(bytes)), File::open);
}

/// "t" and 12 -> "t12".
inline std::string numbered(const char* prefix, std::size_t number) {
  return std::string(prefix).append(std::to_string(number));
}

inline std::vector<std::uint8_t> float_bytes(const std::vector<float>& values) {
  std::vector<std::uint8_t> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

struct LlamaShape {
  std::uint32_t vocab = 40, hidden = 32, layers = 2, heads = 4, kv_heads = 2, head_dim = 8, ffn = 48,
                context = 64;
  bool tied = false;
  std::uint32_t experts = 0, experts_used = 2;
  bool stacked_experts = true;  // else a tensor for each expert
};

/// The FFN of layer "blk.N.": gate, up and down, or the router and the experts.
inline void add_ffn(GgufBuilder& gguf, const LlamaShape& shape, const std::string& blk) {
  const std::pair<const char*, std::vector<std::uint64_t>> matrices[] = {
      {"ffn_gate", {shape.hidden, shape.ffn}},
      {"ffn_up", {shape.hidden, shape.ffn}},
      {"ffn_down", {shape.ffn, shape.hidden}}};
  if (shape.experts > 0) gguf.tensor({blk + "ffn_gate_inp.weight", {shape.hidden, shape.experts}});
  for (const auto& [name, dims] : matrices) {
    if (shape.experts == 0) {
      gguf.tensor({blk + name + ".weight", dims});
    } else if (shape.stacked_experts) {
      gguf.tensor({blk + name + "_exps.weight", {dims[0], dims[1], shape.experts}});
    } else {
      for (std::uint32_t e = 0; e < shape.experts; e++)
        gguf.tensor({blk + name + "." + std::to_string(e) + ".weight", dims});
    }
  }
}

/// A whole Llama with weights of zero that read_config accepts.
inline GgufBuilder tiny_llama(const LlamaShape& shape = {}) {
  GgufBuilder gguf;
  gguf.set("general.architecture", "llama").set("general.name", "tiny");
  gguf.set("llama.vocab_size", shape.vocab).set("llama.embedding_length", shape.hidden);
  gguf.set("llama.block_count", shape.layers).set("llama.feed_forward_length", shape.ffn);
  gguf.set("llama.context_length", shape.context).set("llama.attention.head_count", shape.heads);
  gguf.set("llama.attention.head_count_kv", shape.kv_heads);
  gguf.set("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  if (shape.head_dim * shape.heads != shape.hidden) {
    gguf.set("llama.attention.key_length", shape.head_dim)
        .set("llama.attention.value_length", shape.head_dim);
  }
  if (shape.experts > 0)
    gguf.set("llama.expert_count", shape.experts).set("llama.expert_used_count", shape.experts_used);
  const std::uint64_t q = std::uint64_t{shape.heads} * shape.head_dim;
  const std::uint64_t kv = std::uint64_t{shape.kv_heads} * shape.head_dim;
  gguf.tensor({"token_embd.weight", {shape.hidden, shape.vocab}});
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer) {
    const std::string blk = "blk." + std::to_string(layer) + ".";
    gguf.tensor({blk + "attn_norm.weight", {shape.hidden}});
    gguf.tensor({blk + "attn_q.weight", {shape.hidden, q}});
    gguf.tensor({blk + "attn_k.weight", {shape.hidden, kv}});
    gguf.tensor({blk + "attn_v.weight", {shape.hidden, kv}});
    gguf.tensor({blk + "attn_output.weight", {q, shape.hidden}});
    gguf.tensor({blk + "ffn_norm.weight", {shape.hidden}});
    add_ffn(gguf, shape, blk);
  }
  gguf.tensor({"output_norm.weight", {shape.hidden}});
  if (!shape.tied) gguf.tensor({"output.weight", {shape.hidden, shape.vocab}});
  return gguf;
}

}  // namespace cria::test
