// LoRA adapters: low-rank updates of a model's matrices, in files of their own.
// LoRA: Hu et al. 2021; rank-stabilised scales: Kalajdzievski 2023.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "kernels/backend.h"
#include "kernels/ops.h"
#include "model/config.h"

namespace cria {

/// An adapter that a request uses: its index among those loaded with the model, and a factor for all it adds.
struct AppliedAdapter {
  std::int32_t adapter = 0;
  float scale = 1;
  bool operator==(const AppliedAdapter&) const = default;
};
using AdapterSet = std::vector<AppliedAdapter>;

/// The normal form of a set: by ascending index, without those of scale 0. Equal sets give equal bits, in
/// whatever order a request names them. Throws ERR_INVALID_ARGUMENT for an index that is not below
/// `n_adapters` or given twice, and for a scale that is not finite.
AdapterSet normalized(AdapterSet set, std::size_t n_adapters);

/// What an adapter adds to one matrix, in host memory. Rows of query and key are in the order of the model's.
struct AdapterMatrix {
  std::int32_t layer = 0;
  Projection projection = Projection::query;
  std::int64_t rank = 0;
  std::vector<float> a;  // [rank, cols]
  std::vector<float> b;  // [rows, rank]
  float scale = 1;       // alpha / rank, or alpha / sqrt(rank)
};

/// What is known of an adapter besides its values.
struct AdapterInfo {
  std::string path;
  std::string name;       // general.name; empty where the file has none
  std::string format;     // "gguf" or "peft"
  std::int64_t rank = 0;  // the largest of its matrices
  std::uint64_t parameters = 0;
  std::uint64_t bytes = 0;        // in the backend's memory
  std::uint64_t fingerprint = 0;  // a hash of all that it adds (Xxh64)
};

/// An adapter as read from its file or folder.
struct AdapterFile {
  AdapterInfo info;
  std::vector<AdapterMatrix> matrices;  // by layer and projection; no two for the same matrix
};

/// Reads an adapter and checks it against the model's configuration: a GGUF file (llama.cpp's
/// convert_lora_to_gguf.py), or a folder that PEFT's save_pretrained() wrote. Matrices in F32, F16 or BF16.
/// Errors, each naming the file and the tensor or key: ERR_FILE_NOT_FOUND, ERR_IO, ERR_INVALID_FILE,
/// ERR_UNSUPPORTED_FILE; ERR_UNSUPPORTED_MODEL for what cria does not compute (DoRA, biases, embeddings,
/// experts, other methods than LoRA); ERR_INVALID_MODEL for an adapter of another model, or one that
/// contradicts itself; ERR_ABORTED.
AdapterFile read_adapter(const std::string& path, const ModelConfig& config, const CancelFlag& cancel);

/// An adapter on a backend.
struct Adapter {
  AdapterInfo info;
  std::vector<AdapterLayer> layers;  // [n_layers]
};

/// Whether any of them changes gate or up.
bool change_gate_or_up(std::span<const AdapterFile> files);

/// The weights of adapters, in the order in which upload_adapters() uploads them.
std::vector<WeightSpec> adapter_specs(std::span<const AdapterFile> files);

/// Brings adapters to a backend. Throws ERR_OUT_OF_MEMORY.
std::vector<Adapter> upload_adapters(std::span<const AdapterFile> files, std::uint32_t n_layers,
                                     Backend& backend);

/// model_fingerprint() of a model with these adapters: that of the model itself where the set is empty.
/// `fingerprints` are the adapters' own.
std::uint64_t adapted_fingerprint(std::uint64_t model, std::span<const std::uint64_t> fingerprints,
                                  const AdapterSet& set);

}  // namespace cria
