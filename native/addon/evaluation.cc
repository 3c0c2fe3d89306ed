#include "addon/evaluation.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "addon/convert.h"
#include "addon/environment.h"
#include "addon/progress.h"
#include "addon/requests.h"
#include "addon/tasks.h"
#include "engine/evaluation.h"

namespace cria {
namespace {

struct TextOptions {
  LoadOptions model;
  std::string text;
  std::int32_t chunk_tokens = 0;
  std::int64_t max_chunks = 0;  // 0: all
};

TextOptions as_text_options(const Napi::Object& o) {
  TextOptions options;
  options.model = as_load_options(o.Get("model"));
  options.text = as_string(o.Get("text"), "text");
  options.chunk_tokens =
      static_cast<std::int32_t>(as_integer(o.Get("chunkTokens"), "chunkTokens", 8, 1 << 20));
  options.max_chunks = as_integer(o.Get("maxChunks"), "maxChunks", 0, INT32_MAX);
  // A context of one chunk, and no more cache than that.
  options.model.context_length = options.chunk_tokens;
  return options;
}

std::int64_t chunks_to_run(const TextChunks& chunks, std::int64_t max_chunks) {
  return max_chunks > 0 ? std::min(max_chunks, chunks.size()) : chunks.size();
}

// ---- perplexity ----

struct PerplexityOptions {
  TextOptions text;
  std::optional<LoadOptions> reference;
  std::int64_t first_chunk = 0;
  /// Of the models that the chunks before were scored by; empty: none were.
  std::string fingerprint;
};

PerplexityOptions as_perplexity_options(const Napi::Value& value) {
  const Napi::Object o = as_object(value, "options");
  PerplexityOptions options;
  options.text = as_text_options(o);
  if (!o.Get("reference").IsNull()) {
    options.reference = as_load_options(o.Get("reference"));
    options.reference->context_length = options.text.chunk_tokens;
  }
  options.first_chunk = as_integer(o.Get("firstChunk"), "firstChunk", 0, INT32_MAX);
  options.fingerprint = as_string(o.Get("fingerprint"), "fingerprint");
  return options;
}

struct PerplexityResult {
  std::string fingerprint;
  std::int64_t text_tokens = 0;
  std::int64_t chunks = 0;
};
using OnChunk = std::function<void(const std::string& fingerprint, std::int64_t chunk, std::int64_t chunks,
                                   const ChunkScore& score)>;

std::string fingerprint_of(const LoadedModel& model, const LoadedModel* reference) {
  std::string text = std::to_string(model.state_header.model_fingerprint);
  if (reference) text += " " + std::to_string(reference->state_header.model_fingerprint);
  return text;
}

PerplexityResult run_perplexity(const PerplexityOptions& options, const OnChunk& on_chunk,
                                const CancelFlag& cancel) {
  const LoadedModel model = load_model(options.text.model, {}, cancel);
  std::optional<LoadedModel> reference;
  if (options.reference) {
    reference = load_model(*options.reference, {}, cancel);
    check_same_vocabulary(*model.decoder, *reference->decoder);
  }
  const TextChunks chunks(*model.tokenizer, options.text.text, options.text.chunk_tokens);
  PerplexityResult result{.fingerprint = fingerprint_of(model, reference ? &*reference : nullptr),
                          .text_tokens = chunks.text_tokens(),
                          .chunks = chunks_to_run(chunks, options.text.max_chunks)};
  if (!options.fingerprint.empty() && options.fingerprint != result.fingerprint)
    throw Error(ErrorCode::state_mismatch, "the saved state is that of another model",
                {{"expected", result.fingerprint}, {"found", options.fingerprint}});
  for (std::int64_t i = options.first_chunk; i < result.chunks; i++) {
    cancel.check();
    const ChunkScore score =
        score_chunk(*model.decoder, reference ? reference->decoder.get() : nullptr, chunks.at(i), cancel);
    on_chunk(result.fingerprint, i, result.chunks, score);
  }
  return result;
}

Napi::Object score_to_js(Napi::Env env, const ChunkScore& score) {
  Napi::Object o = Napi::Object::New(env);
  const auto number = [&](const char* name, double value) { o.Set(name, Napi::Number::New(env, value)); };
  number("tokens", score.tokens);
  number("nll", score.nll);
  number("nllSquares", score.nll_squares);
  number("referenceNll", score.reference_nll);
  number("kl", score.kl);
  number("klSquares", score.kl_squares);
  number("klMax", score.kl_max);
  number("sameTop", score.same_top);
  return o;
}

// ---- importance matrices ----

struct ImatrixOptions {
  TextOptions text;
  std::string text_name, output;
};
struct ImatrixResult {
  std::int64_t chunks = 0, entries = 0;
};

ImatrixResult compute_imatrix(const ImatrixOptions& options, const LoadProgress& progress,
                              const CancelFlag& cancel) {
  const std::unique_ptr<ModelSource> source = ModelSource::open(options.text.model.path);
  const LoadedModel model = load_model(options.text.model, {}, cancel);
  const TextChunks chunks(*model.tokenizer, options.text.text, options.text.chunk_tokens);
  ImportanceCollector collector(*model.decoder, *source);
  collector.matrix().datasets = {options.text_name};
  const std::int64_t n = chunks_to_run(chunks, options.text.max_chunks);
  for (std::int64_t i = 0; i < n; i++) {
    collector.add_chunk(chunks.at(i), cancel);
    if (progress) progress(static_cast<std::uint64_t>(i + 1), static_cast<std::uint64_t>(n));
  }
  collector.matrix().write(options.output);
  return {n, static_cast<std::int64_t>(collector.matrix().entries.size())};
}

}  // namespace

Napi::Value perplexity_task(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const PerplexityOptions options = as_perplexity_options(info[0]);
    const std::shared_ptr<Environment>& environment = Environment::of(env);
    const std::uint64_t callback = environment->next_progress++;
    environment->progress.emplace(callback, Napi::Persistent(as_function(info[1], "onChunk")));
    const OnChunk on_chunk = [js = environment->js, callback](const std::string& fingerprint,
                                                              std::int64_t chunk, std::int64_t chunks,
                                                              const ChunkScore& score) {
      js->post([=](Napi::Env e) {
        const auto& callbacks = Environment::of(e)->progress;
        const auto at = callbacks.find(callback);
        if (at == callbacks.end()) return;
        at->second.Call({Napi::String::New(e, fingerprint), Napi::Number::New(e, static_cast<double>(chunk)),
                         Napi::Number::New(e, static_cast<double>(chunks)), score_to_js(e, score)});
      });
    };
    return start_task(
        env, TaskLength::long_work,
        [options, on_chunk](const CancelFlag& cancel) { return run_perplexity(options, on_chunk, cancel); },
        [](Napi::Env e, PerplexityResult&& result) -> Napi::Value {
          Napi::Object o = Napi::Object::New(e);
          o.Set("fingerprint", Napi::String::New(e, result.fingerprint));
          o.Set("textTokens", Napi::Number::New(e, static_cast<double>(result.text_tokens)));
          o.Set("chunks", Napi::Number::New(e, static_cast<double>(result.chunks)));
          return o;
        },
        [callback](Environment& at) { at.progress.erase(callback); });
  });
}

Napi::Value compute_imatrix_task(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const Napi::Object o = as_object(info[0], "options");
    ImatrixOptions options;
    options.text = as_text_options(o);
    // The observer fetches activations between ops, which passes recorded on a device do not allow.
    options.text.model.backend.device = "cpu";
    options.text.model.backend.gpu_layers = -1;
    options.text_name = as_string(o.Get("textName"), "textName");
    options.output = as_string(o.Get("output"), "output");
    const Progress progress(env, info[1]);
    return start_task(
        env, TaskLength::long_work,
        [options, progress](const CancelFlag& cancel) {
          return compute_imatrix(options, progress.report, cancel);
        },
        [](Napi::Env e, ImatrixResult&& result) -> Napi::Value {
          Napi::Object result_object = Napi::Object::New(e);
          result_object.Set("chunks", Napi::Number::New(e, static_cast<double>(result.chunks)));
          result_object.Set("entries", Napi::Number::New(e, static_cast<double>(result.entries)));
          return result_object;
        },
        [progress](Environment& at) { progress.release(at); });
  });
}

}  // namespace cria
