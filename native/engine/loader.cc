#include "engine/loader.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/error.h"
#include "core/huge_memory.h"
#include "engine/vocabulary_gguf.h"
#include "model/fingerprint.h"

namespace cria {
namespace {

// Tokens of a context that the choice of a device leaves room for, where none was asked for.
constexpr std::uint64_t kUsualContext = 4096;

struct KvPlan {
  std::int32_t context_length;
  std::int32_t n_pages;
  std::uint64_t bytes;
};

// How many pages the cache gets. A page of tokens costs `page_bytes` in every layer together.
KvPlan plan_kv(const LoadOptions& options, const ModelConfig& config, std::uint64_t page_bytes,
               std::int32_t page_tokens, std::uint64_t available) {
  const auto trained = static_cast<std::int64_t>(config.context_length);
  const std::int64_t wanted = options.context_length > 0 ? options.context_length : trained;
  if (wanted > trained) {
    throw Error(ErrorCode::invalid_argument,
                "contextLength: expected at most " + std::to_string(trained) +
                    ", what the model was trained for, found " + std::to_string(wanted),
                {{"expected", static_cast<double>(trained)}, {"found", static_cast<double>(wanted)}});
  }
  const std::uint64_t budget = options.kv_memory > 0 ? options.kv_memory : available / 2;
  const std::int64_t pages_wanted = (wanted + page_tokens - 1) / page_tokens;
  const auto pages_that_fit =
      static_cast<std::int64_t>(std::min<std::uint64_t>(budget / page_bytes, INT32_MAX));
  const bool fits = pages_that_fit >= pages_wanted;
  // A context that was asked for is kept or refused; the file's own is only a limit.
  if (pages_that_fit < 1 || (options.context_length > 0 && !fits)) {
    throw Error(
        ErrorCode::out_of_memory,
        "a KV cache for " + std::to_string(wanted) + " tokens needs " +
            std::to_string(static_cast<std::uint64_t>(pages_wanted) * page_bytes) + " bytes, its budget is " +
            std::to_string(budget) + "; lower contextLength or raise kvMemory",
        {{"requestedBytes", static_cast<double>(static_cast<std::uint64_t>(pages_wanted) * page_bytes)},
         {"budgetBytes", static_cast<double>(budget)},
         {"contextLength", static_cast<double>(wanted)}});
  }
  std::int64_t pages = pages_that_fit;
  if (options.kv_memory == 0) {
    const auto pages_in_quarter = static_cast<std::int64_t>(available / 4 / page_bytes);
    pages =
        std::min({pages_that_fit, std::max(pages_wanted, pages_in_quarter), kDefaultContexts * pages_wanted});
  }
  const std::int64_t context = std::min(wanted, pages * page_tokens);
  return {static_cast<std::int32_t>(context), static_cast<std::int32_t>(pages),
          static_cast<std::uint64_t>(pages) * page_bytes};
}

/// Bytes that a device should have left for the KV cache: what was asked for, or a context's within the half
/// of the free memory that plan_kv() takes.
std::uint64_t kv_room(const LoadOptions& options, const ModelConfig& config) {
  if (options.kv_memory > 0) return options.kv_memory;
  const std::uint64_t tokens = options.context_length > 0
                                   ? static_cast<std::uint64_t>(options.context_length)
                                   : std::min<std::uint64_t>(config.context_length, kUsualContext);
  const std::uint64_t bytes_per_token = std::uint64_t{2} * config.n_layers * config.n_kv_heads *
                                        config.head_dim * (options.kv_dtype == DType::f32 ? 4 : 2);
  return 2 * tokens * bytes_per_token;
}

/// Weights, cache and decoder on a backend.
void bring_up(LoadedModel& loaded, const GgufFile& file, const ModelConfig& config,
              std::unique_ptr<Backend> backend, const LoadOptions& options, const LoadProgress& progress,
              const CancelFlag& cancel) {
  const BackendInfo& info = backend->info();
  ModelWeights weights = load_weights(
      file, config, *backend, options.mmap ? WeightSource::mapped : WeightSource::read, progress, cancel);
  const std::uint64_t page_bytes = backend->kv().page_bytes(attention_shape(config), options.kv_dtype) *
                                   static_cast<std::uint64_t>(config.n_layers);
  loaded.state_header = {model_fingerprint(file, config),
                         info.kv_layout,
                         options.kv_dtype,
                         config.n_layers,
                         static_cast<std::uint32_t>(info.page_tokens),
                         page_bytes / config.n_layers};
  const KvPlan kv = plan_kv(options, config, page_bytes, info.page_tokens, backend->free_memory());
  const std::int32_t chunk = options.prefill_chunk > 0 ? options.prefill_chunk : info.prefill_chunk;
  loaded.engine.context_length = kv.context_length;
  loaded.engine.n_pages = kv.n_pages;
  loaded.engine.prefill_chunk = chunk;
  loaded.engine.max_queue = options.max_queue;
  loaded.kv_bytes = kv.bytes;
  loaded.decoder = std::make_unique<Decoder>(config, std::move(backend), std::move(weights),
                                             KvOptions{options.kv_dtype, kv.n_pages},
                                             std::max(chunk, kMaxSequences), kMaxSequences);
}

void check_options(const LoadOptions& options) {
  if (options.kv_dtype != DType::f16 && options.kv_dtype != DType::f32)
    throw Error(ErrorCode::invalid_argument, "kvDtype: expected 'f16' or 'f32'");
}

}  // namespace

LoadedModel load_model(const LoadOptions& options, const LoadProgress& progress, const CancelFlag& cancel) {
  const auto begin = std::chrono::steady_clock::now();
  check_options(options);
  GgufFile file = GgufFile::open(options.path);
  cancel.check();
  ModelConfig config = read_config(file);
  cancel.check();

  LoadedModel loaded;
  loaded.tokenizer = Tokenizer::build(read_vocabulary(file));
  if (loaded.tokenizer->vocab_size() > config.vocab_size) {
    throw Error(ErrorCode::invalid_model,
                "the vocabulary has " + std::to_string(loaded.tokenizer->vocab_size()) +
                    " tokens, the embedding " + std::to_string(config.vocab_size) + " rows",
                {{"expected", static_cast<double>(config.vocab_size)},
                 {"found", static_cast<double>(loaded.tokenizer->vocab_size())}});
  }
  cancel.check();

  file.drop_metadata();
  trim_freed_memory();

  loaded.file_bytes = file.total_file_bytes();
  for (const GgufTensor& t : file.tensors()) loaded.bytes_by_type[std::string(name_of(t.dtype))] += t.bytes;
  BackendOptions wanted = options.backend;
  wanted.n_layers = static_cast<std::int32_t>(config.n_layers);
  wanted.weights = weight_specs(file, config);
  wanted.kv_bytes = kv_room(options, config);
  wanted.adopts_weights = options.mmap;
  std::unique_ptr<Backend> backend = create_backend(wanted);
  const bool may_fall_back = wanted.device == "auto" && backend->info().device != "cpu";
  try {
    bring_up(loaded, file, config, std::move(backend), options, progress, cancel);
  } catch (const Error& e) {
    // It did not fit after all, or is a model that only the CPU runs.
    const bool device_refused =
        e.code() == ErrorCode::out_of_memory || e.code() == ErrorCode::unsupported_device ||
        e.code() == ErrorCode::unsupported_model || e.code() == ErrorCode::device_lost;
    if (!may_fall_back || !device_refused) throw;
    wanted.not_cuda = e.what();
    bring_up(loaded, file, config, create_backend(wanted), options, progress, cancel);
  }
  loaded.load_ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  return loaded;
}

std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& path) {
  return Tokenizer::build(read_vocabulary(GgufFile::open(path)));
}

}  // namespace cria
