// Loads a model, ready to run, or only its tokenizer.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "convert/file_type.h"
#include "core/cancel.h"
#include "engine/engine.h"
#include "io/kv_state_file.h"
#include "io/model_source.h"
#include "model/decoder.h"
#include "model/weights.h"
#include "tokenizer/tokenizer.h"

namespace cria {

/// An adapter to load beside the model.
struct AdapterOption {
  std::string path;
  // Of requests that name no adapters; the engine's requests always name theirs.
  float scale = 1;
};

struct LoadOptions {
  std::string path;
  std::vector<AdapterOption> adapters;
  BackendOptions backend;
  /// 0: the file's, reduced to what the KV memory holds.
  std::int64_t context_length = 0;
  /// Bytes for the KV cache. 0: a quarter of the free memory but at most kDefaultContexts contexts, or up to
  /// half of the free memory where one context needs it.
  std::uint64_t kv_memory = 0;
  DType kv_dtype = DType::f16;     // f16 or f32
  std::int32_t prefill_chunk = 0;  // prompt tokens per step; 0: the backend's choice
  std::int32_t max_queue = EngineOptions{}.max_queue;
  bool mmap = false;                 // map the file instead of reading the weights
  std::optional<FileType> quantize;  // quantize the weights as they are read
  std::string importance;            // path of an importance matrix for that; empty: none
};

/// How many contexts of full length the KV cache holds by default, memory permitting.
constexpr std::int64_t kDefaultContexts = 8;
/// Requests that may share a step; each has its own row of logits.
constexpr std::int32_t kMaxSequences = 64;

struct LoadedModel {
  std::unique_ptr<Decoder> decoder;
  std::shared_ptr<const Tokenizer> tokenizer;
  EngineOptions engine;
  KvStateHeader state_header;  // of its saved states
  std::uint64_t kv_bytes = 0;
  std::uint64_t file_bytes = 0;
  std::map<std::string, std::uint64_t> bytes_by_type;  // weight type -> bytes in the file
  std::vector<std::string> warnings;  // what the model asks for and does not get, one line each
  double load_ms = 0;
};

/// Errors: those of ModelSource::open, read_config, Tokenizer::build, load_weights and read_adapter;
/// ERR_INVALID_ARGUMENT for options that contradict the model; ERR_UNSUPPORTED_DEVICE for adapters on a CUDA
/// device; ERR_OUT_OF_MEMORY; ERR_ABORTED.
LoadedModel load_model(const LoadOptions& options, const LoadProgress& progress, const CancelFlag& cancel);

/// Adds to a folder's metadata the vocabulary of its tokenizer's files, so that a GGUF can be written from
/// it. A GGUF has its own. Errors: those of read_config and read_vocabulary_folder.
void add_vocabulary(ModelSource& source);

/// Loads only the vocabulary. The file need not contain tensors.
std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& path);

}  // namespace cria
