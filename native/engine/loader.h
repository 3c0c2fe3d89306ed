// A path -> a model ready to run, or a tokenizer alone.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "core/cancel.h"
#include "engine/engine.h"
#include "io/gguf.h"
#include "io/kv_state_file.h"
#include "model/decoder.h"
#include "model/weights.h"
#include "tokenizer/tokenizer.h"

namespace cria {

struct LoadOptions {
  std::string path;
  BackendOptions backend;
  std::int64_t context_length = 0;  // 0: the file's, lowered to what the KV memory holds
  // Bytes for the KV cache. 0: enough for kDefaultContexts contexts within a quarter of the free memory, or
  // for one within half of it.
  std::uint64_t kv_memory = 0;
  DType kv_dtype = DType::f16;     // f16 or f32
  std::int32_t prefill_chunk = 0;  // prompt tokens per step; 0: the backend's choice
  std::int32_t max_queue = EngineOptions{}.max_queue;
  bool mmap = false;  // use the weights where the file is mapped instead of reading them
};

/// Contexts of full length that the KV cache holds by default, if there is memory.
constexpr std::int64_t kDefaultContexts = 8;
/// Requests that share a step. The logits of each have a row of their own.
constexpr std::int32_t kMaxSequences = 64;

struct LoadedModel {
  std::unique_ptr<Decoder> decoder;
  std::shared_ptr<const Tokenizer> tokenizer;
  EngineOptions engine;
  KvStateHeader state_header;  // what its saved states fit to
  std::uint64_t kv_bytes = 0;
  std::uint64_t file_bytes = 0;
  std::map<std::string, std::uint64_t> bytes_by_type;  // weight type -> bytes in the file
  double load_ms = 0;
};

/// Throws the errors of GgufFile::open, read_config, Tokenizer::build, load_weights; ERR_INVALID_ARGUMENT for
/// options that contradict the model; ERR_OUT_OF_MEMORY; ERR_ABORTED.
LoadedModel load_model(const LoadOptions& options, const LoadProgress& progress, const CancelFlag& cancel);

/// The vocabulary alone, also of a file without tensors.
std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& path);

}  // namespace cria
