#include "addon/requests.h"

#include <string>

#include "addon/convert.h"
#include "addon/tokenizer.h"

namespace cria {
namespace {

SamplingParams as_sampling(const Napi::Object& o) {
  SamplingParams p;
  p.temperature = as_number(o.Get("temperature"), "temperature");
  p.top_k = static_cast<std::int32_t>(as_integer(o.Get("topK"), "topK", 0, INT32_MAX));
  p.top_p = as_number(o.Get("topP"), "topP");
  p.min_p = as_number(o.Get("minP"), "minP");
  p.typical_p = as_number(o.Get("typicalP"), "typicalP");
  p.repetition_penalty = as_number(o.Get("repetitionPenalty"), "repetitionPenalty");
  p.frequency_penalty = as_number(o.Get("frequencyPenalty"), "frequencyPenalty");
  p.presence_penalty = as_number(o.Get("presencePenalty"), "presencePenalty");
  p.penalty_window =
      static_cast<std::int32_t>(as_integer(o.Get("penaltyWindow"), "penaltyWindow", -1, INT32_MAX));
  p.seed = as_uint64(o.Get("seed"), "seed");
  p.logprobs = static_cast<std::int32_t>(as_integer(o.Get("logprobs"), "logprobs", -1, INT32_MAX));
  const Napi::Value bias = o.Get("logitBias");
  if (!bias.IsArray()) throw_argument("logitBias", "an array of [id, bias] pairs");
  const auto pairs = bias.As<Napi::Array>();
  for (std::uint32_t i = 0; i < pairs.Length(); i++) {
    const std::string at = "logitBias[" + std::to_string(i) + "]";
    const Napi::Value item = pairs.Get(i);
    if (!item.IsArray()) throw_argument(at, "an [id, bias] pair");
    const auto pair = item.As<Napi::Array>();
    p.logit_bias.emplace_back(static_cast<std::uint32_t>(as_integer(pair.Get(0u), at + "[0]", 0, UINT32_MAX)),
                              static_cast<float>(as_number(pair.Get(1u), at + "[1]")));
  }
  return p;
}

OnContextFull as_on_context_full(const Napi::Value& value) {
  const std::string name = as_string(value, "onContextFull");
  if (name == "stop") return OnContextFull::stop;
  if (name == "error") return OnContextFull::error;
  if (name != "shift") throw_argument("onContextFull", "'stop', 'error' or 'shift'");
  return OnContextFull::shift;
}

/// [{ path, scale }, ...] of loadModel.
std::vector<AdapterOption> as_adapter_options(const Napi::Value& value) {
  if (!value.IsArray()) throw_argument("adapters", "an array of { path, scale }");
  const auto array = value.As<Napi::Array>();
  std::vector<AdapterOption> adapters;
  for (std::uint32_t i = 0; i < array.Length(); i++) {
    const std::string at = "adapters[" + std::to_string(i) + "]";
    const Napi::Object item = as_object(array.Get(i), at);
    adapters.push_back({.path = as_string(item.Get("path"), at + ".path"),
                        .scale = static_cast<float>(as_number(item.Get("scale"), at + ".scale"))});
  }
  return adapters;
}

}  // namespace

AdapterSet as_adapters(const Napi::Value& value) {
  if (!value.IsArray()) throw_argument("adapters", "an array of [index, scale] pairs");
  const auto array = value.As<Napi::Array>();
  AdapterSet set;
  for (std::uint32_t i = 0; i < array.Length(); i++) {
    const std::string at = "adapters[" + std::to_string(i) + "]";
    const Napi::Value item = array.Get(i);
    if (!item.IsArray()) throw_argument(at, "an [index, scale] pair");
    const auto pair = item.As<Napi::Array>();
    set.push_back({.adapter = static_cast<std::int32_t>(as_integer(pair.Get(0u), at + "[0]", 0, INT32_MAX)),
                   .scale = static_cast<float>(as_number(pair.Get(1u), at + "[1]"))});
  }
  return set;
}

LoadOptions as_load_options(const Napi::Value& value) {
  const Napi::Object o = as_object(value, "options");
  LoadOptions options;
  options.path = as_string(o.Get("path"), "path");
  options.backend.device = as_string(o.Get("device"), "device");
  options.backend.threads = static_cast<int>(as_integer(o.Get("threads"), "threads", 0, 1024));
  options.backend.gpu_layers =
      static_cast<std::int32_t>(as_integer(o.Get("gpuLayers"), "gpuLayers", -1, INT32_MAX));
  options.context_length = as_integer(o.Get("contextLength"), "contextLength", 0, INT32_MAX);
  options.kv_memory =
      static_cast<std::uint64_t>(as_integer(o.Get("kvMemory"), "kvMemory", 0, std::int64_t{1} << 50));
  const std::string kv = as_string(o.Get("kvDtype"), "kvDtype");
  if (kv != "f16" && kv != "f32") throw_argument("kvDtype", "'f16' or 'f32'");
  options.kv_dtype = kv == "f32" ? DType::f32 : DType::f16;
  options.prefill_chunk =
      static_cast<std::int32_t>(as_integer(o.Get("prefillChunk"), "prefillChunk", 0, 1 << 20));
  options.max_queue = static_cast<std::int32_t>(as_integer(o.Get("maxQueue"), "maxQueue", 1, 1 << 20));
  options.mmap = as_bool(o.Get("mmap"), "mmap");
  options.adapters = as_adapter_options(o.Get("adapters"));
  const std::string type = as_string(o.Get("quantize"), "quantize");
  if (!type.empty()) options.quantize = parse_file_type(type);
  options.importance = as_string(o.Get("imatrix"), "imatrix");
  return options;
}

Prompt as_prompt(const Napi::Value& prompt, const Napi::Value& bos) {
  if (prompt.IsTypedArray()) return as_ids(prompt, "prompt");
  return PromptText{as_text_pieces(prompt, "prompt"), as_optional_bool(bos, "bos")};
}

GenerateRequest as_request(const Napi::Value& value) {
  const Napi::Object o = as_object(value, "request");
  GenerateRequest r;
  r.prompt = as_prompt(o.Get("prompt"), o.Get("bos"));
  r.max_tokens = static_cast<std::int32_t>(as_integer(o.Get("maxTokens"), "maxTokens", -1, INT32_MAX));
  r.stop = as_strings(o.Get("stop"), "stop");
  r.stop_tokens = as_ids(o.Get("stopTokens"), "stopTokens");
  r.ignore_eos = as_bool(o.Get("ignoreEos"), "ignoreEos");
  r.show_special = as_bool(o.Get("showSpecial"), "showSpecial");
  r.starts_text = as_bool(o.Get("startsText"), "startsText");
  r.priority = static_cast<std::int32_t>(as_integer(o.Get("priority"), "priority", -1000, 1000));
  r.timeout_ms = as_number(o.Get("timeoutMs"), "timeoutMs");
  if (!(r.timeout_ms >= 0)) throw_argument("timeoutMs", "a number of at least 0");
  r.on_context_full = as_on_context_full(o.Get("onContextFull"));
  r.keep_tokens = static_cast<std::int32_t>(as_integer(o.Get("keepTokens"), "keepTokens", -1, INT32_MAX));
  r.adapters = as_adapters(o.Get("adapters"));
  r.sampling = as_sampling(as_object(o.Get("sampling"), "sampling"));
  return r;
}

}  // namespace cria
