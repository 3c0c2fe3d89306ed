#include "engine/loader.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "convert/quantized_source.h"
#include "core/error.h"
#include "core/huge_memory.h"
#include "engine/vocabulary_folder.h"
#include "engine/vocabulary_gguf.h"
#include "model/fingerprint.h"

namespace cria {
namespace {

// The context for which the choice of a device reserves room when the caller names none, in tokens.
constexpr std::uint64_t kUsualContext = 4096;

struct KvPlan {
  std::int32_t context_length;
  std::int32_t n_pages;
  std::uint64_t bytes;
};

/// The context length that was asked for, else the trained one.
std::int64_t wanted_context(const LoadOptions& options, const ModelConfig& config) {
  const auto trained = static_cast<std::int64_t>(config.context_length);
  if (options.context_length > trained) {
    throw Error(ErrorCode::invalid_argument,
                "contextLength: expected at most " + std::to_string(trained) +
                    ", for which the model was trained, found " + std::to_string(options.context_length),
                {{"expected", trained}, {"found", options.context_length}});
  }
  return options.context_length > 0 ? options.context_length : trained;
}

/// Chooses the number of KV pages. `page_bytes` is the size of a page over all layers.
KvPlan plan_kv(const LoadOptions& options, const ModelConfig& config, std::uint64_t page_bytes,
               std::int32_t page_tokens, std::uint64_t available) {
  const std::int64_t wanted = wanted_context(options, config);
  const std::uint64_t budget = options.kv_memory > 0 ? options.kv_memory : available / 2;
  const std::int64_t pages_wanted = (wanted + page_tokens - 1) / page_tokens;
  const auto pages_that_fit =
      static_cast<std::int64_t>(std::min<std::uint64_t>(budget / page_bytes, INT32_MAX));
  const bool fits = pages_that_fit >= pages_wanted;
  // A context length that was asked for is kept or refused; the file's own is only an upper bound.
  if (pages_that_fit < 1 || (options.context_length > 0 && !fits)) {
    const std::uint64_t needed = static_cast<std::uint64_t>(pages_wanted) * page_bytes;
    throw Error(ErrorCode::out_of_memory,
                "a KV cache for " + std::to_string(wanted) + " tokens needs " + std::to_string(needed) +
                    " bytes, its budget is " + std::to_string(budget) +
                    "; lower contextLength or raise kvMemory",
                {{"requestedBytes", needed}, {"budgetBytes", budget}, {"contextLength", wanted}});
  }
  std::int64_t pages = pages_that_fit;
  if (options.kv_memory == 0) {
    const auto pages_in_quarter = static_cast<std::int64_t>(available / 4 / page_bytes);
    pages =
        std::min({pages_that_fit, std::max(pages_wanted, pages_in_quarter), kDefaultContexts * pages_wanted});
  }
  const std::int64_t context = std::min(wanted, pages * page_tokens);
  return {.context_length = static_cast<std::int32_t>(context),
          .n_pages = static_cast<std::int32_t>(pages),
          .bytes = static_cast<std::uint64_t>(pages) * page_bytes};
}

/// Bytes that a device should have left for the KV cache: those that were asked for, or twice those of one
/// context, since plan_kv() takes at most half of the free memory.
std::uint64_t reserved_kv_bytes(const LoadOptions& options, const ModelConfig& config) {
  if (options.kv_memory > 0) return options.kv_memory;
  const std::uint64_t tokens = options.context_length > 0
                                   ? static_cast<std::uint64_t>(options.context_length)
                                   : std::min<std::uint64_t>(config.context_length, kUsualContext);
  const std::uint64_t bytes_per_token = std::uint64_t{2} * config.n_layers * config.n_kv_heads *
                                        config.head_dim * (options.kv_dtype == DType::f32 ? 4 : 2);
  return 2 * tokens * bytes_per_token;
}

/// What was read and checked before there is a backend.
struct ModelParts {
  const ModelSource& file;
  const ModelConfig& config;
  const std::vector<AdapterFile>& adapters;
};

/// Loads the weights and creates the KV cache and the decoder on a backend.
void load_on(LoadedModel& loaded, const ModelParts& parts, std::unique_ptr<Backend> backend,
             const LoadOptions& options, const LoadProgress& progress, const CancelFlag& cancel) {
  const auto& [file, config, adapters] = parts;
  const BackendInfo& info = backend->info();
  ModelWeights weights =
      load_weights(file, config, *backend, options.mmap ? WeightSource::mapped : WeightSource::read,
                   change_gate_or_up(adapters), progress, cancel);
  weights.adapters = upload_adapters(adapters, config.n_layers, *backend);
  const std::uint64_t page_bytes = backend->kv().page_bytes(attention_shape(config), options.kv_dtype) *
                                   static_cast<std::uint64_t>(config.n_layers);
  loaded.state_header = {.model_fingerprint = model_fingerprint(file, config),
                         .layout = info.kv_layout,
                         .dtype = options.kv_dtype,
                         .n_layers = config.n_layers,
                         .page_tokens = static_cast<std::uint32_t>(info.page_tokens),
                         .page_bytes = page_bytes / config.n_layers};
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

/// In the metadata of a GGUF, or in the tokenizer's files of a folder.
VocabularySource vocabulary_of(const ModelSource& source, const ModelConfig& config) {
  if (source.format() == "gguf") return read_vocabulary(source);
  VocabularySource vocabulary = read_vocabulary_folder(source.path(), config.vocab_size);
  // The folder's reader knows all places of chat templates.
  if (auto text = source.find_string("tokenizer.chat_template")) vocabulary.chat_template = *std::move(text);
  return vocabulary;
}

void check_options(const LoadOptions& options) {
  if (options.kv_dtype != DType::f16 && options.kv_dtype != DType::f32)
    throw Error(ErrorCode::invalid_argument, "kvDtype: expected 'f16' or 'f32'");
  if (options.mmap && options.quantize)
    throw Error(ErrorCode::invalid_argument,
                "mmap: weights that are quantized while they load cannot be mapped", {{"option", "mmap"}});
}

/// The model as its file has it, or quantized on the way.
std::shared_ptr<ModelSource> open_source(const LoadOptions& options) {
  std::shared_ptr<ModelSource> source = ModelSource::open(options.path);
  if (!options.quantize) return source;
  QuantizeOptions quantize{.type = *options.quantize};
  if (!options.importance.empty())
    quantize.importance =
        std::make_shared<const ImportanceMatrix>(ImportanceMatrix::read(options.importance));
  return std::make_shared<QuantizedSource>(std::move(source), quantize);
}

/// Throws ERR_UNSUPPORTED_DEVICE where a CUDA device was asked for.
void keep_adapters_on_cpu(BackendOptions& wanted) {
  if (wanted.device.starts_with("cuda"))
    throw Error(ErrorCode::unsupported_device,
                wanted.device + ": adapters run on the CPU only; use device: 'cpu'",
                {{"device", wanted.device}});
  wanted.not_cuda = "adapters run on the CPU only";
}

}  // namespace

LoadedModel load_model(const LoadOptions& options, const LoadProgress& progress, const CancelFlag& cancel) {
  const auto begin = std::chrono::steady_clock::now();
  check_options(options);
  const std::shared_ptr<ModelSource> source = open_source(options);
  ModelSource& file = *source;
  cancel.check();
  ModelConfig config = read_config(file, options.context_length);
  cancel.check();

  LoadedModel loaded;
  loaded.warnings = config.warnings;
  loaded.tokenizer = Tokenizer::build(vocabulary_of(file, config));
  const std::vector<std::string>& of_tokenizer = loaded.tokenizer->warnings();
  loaded.warnings.insert(loaded.warnings.end(), of_tokenizer.begin(), of_tokenizer.end());
  if (loaded.tokenizer->vocab_size() > config.vocab_size) {
    throw Error(ErrorCode::invalid_model,
                "expected at most " + std::to_string(config.vocab_size) +
                    " tokens, the rows of the embedding, found a vocabulary of " +
                    std::to_string(loaded.tokenizer->vocab_size()),
                {{"expected", config.vocab_size}, {"found", loaded.tokenizer->vocab_size()}});
  }
  cancel.check();

  file.drop_metadata();
  trim_freed_memory();

  std::vector<AdapterFile> adapters;
  for (const AdapterOption& adapter : options.adapters)
    adapters.push_back(read_adapter(adapter.path, config, cancel));

  loaded.file_bytes = file.total_file_bytes();
  for (const GgufTensor& t : file.tensors()) loaded.bytes_by_type[std::string(name_of(t.dtype))] += t.bytes;
  BackendOptions wanted = options.backend;
  wanted.n_layers = static_cast<std::int32_t>(config.n_layers);
  wanted.weights = weight_specs(file, config, change_gate_or_up(adapters));
  std::ranges::copy(adapter_specs(adapters), std::back_inserter(wanted.weights));
  wanted.kv_bytes = reserved_kv_bytes(options, config);
  wanted.adopts_weights = options.mmap;
  if (!adapters.empty()) keep_adapters_on_cpu(wanted);
  const ModelParts parts{.file = file, .config = config, .adapters = adapters};
  std::unique_ptr<Backend> backend = create_backend(wanted);
  const bool may_fall_back = wanted.device == "auto" && backend->info().device != "cpu";
  try {
    load_on(loaded, parts, std::move(backend), options, progress, cancel);
  } catch (const Error& e) {
    // The model did not fit after all, or only the CPU can run it.
    const bool device_refused =
        e.code() == ErrorCode::out_of_memory || e.code() == ErrorCode::unsupported_device ||
        e.code() == ErrorCode::unsupported_model || e.code() == ErrorCode::device_lost;
    if (!may_fall_back || !device_refused) throw;
    wanted.not_cuda = e.what();
    load_on(loaded, parts, create_backend(wanted), options, progress, cancel);
  }
  loaded.load_ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  return loaded;
}

void add_vocabulary(ModelSource& source) {
  if (source.format() != "gguf") write_vocabulary(vocabulary_of(source, read_config(source)), source);
}

std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& path) {
  return Tokenizer::build(load_vocabulary(path));
}

}  // namespace cria
