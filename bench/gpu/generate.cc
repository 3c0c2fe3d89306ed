// Whole passes of a model on a device, through the decoder: decode at batches of 1 to 64, and prefill, as
// JSON. bench/gpu/peer_torch.py measures the same shapes with PyTorch.
//
//   bench_gpu_generate [--model file.gguf | --shapes 8b|1b|tiny --type BF16] [--device cuda]
//                      [--batches 1,2,4,8,16,32,64] [--context 1024] [--steps 64] [--prefill 512,2048]
//
// Without a file the weights are one random row, repeated, for which a GPU takes the same time.
#include <chrono>
#include <cmath>
#include <cstring>
#include <random>

#include "bench/gpu/report.h"
#include "core/cancel.h"
#include "core/rope_frequencies.h"
#include "io/gguf.h"
#include "kernels/cpu/quantize.h"
#include "model/decoder.h"

using namespace cria;
using namespace cria::bench;

namespace {

using Clock = std::chrono::steady_clock;

ModelConfig config_of(const std::string& shapes) {
  ModelConfig c;
  c.architecture = "llama";
  const bool large = shapes == "8b", tiny = shapes == "tiny";
  c.vocab_size = tiny ? 512 : 128256;
  c.hidden = tiny ? 256 : large ? 4096 : 2048;
  c.n_layers = tiny ? 2 : large ? 32 : 16;
  c.n_heads = tiny ? 4 : 32;
  c.n_kv_heads = tiny ? 2 : 8;
  c.head_dim = c.hidden / c.n_heads;
  c.ffn_hidden = tiny ? 512 : large ? 14336 : 8192;
  c.context_length = 131072;
  c.rms_norm_eps = 1e-5f;
  c.rope_dim = c.head_dim;
  c.rope_base = 500000;
  c.rope_inv_freq = rope_inverse_frequencies(c.rope_base, static_cast<std::int32_t>(c.rope_dim), {});
  return c;
}

DType type_of(const std::string& name) {
  for (const DType t :
       {DType::f16, DType::bf16, DType::q8_0, DType::q6_k, DType::q5_k, DType::q4_k, DType::q4_0})
    if (name == name_of(t)) return t;
  throw std::runtime_error("unknown type " + name);
}

/// A matrix whose rows all have the same random values.
ModelWeights random_weights(const ModelConfig& c, DType type, Backend& backend) {
  ModelWeights w;
  w.layers.resize(c.n_layers);
  std::vector<WeightSpec> specs;
  std::vector<Weight*> targets;
  const auto add = [&](Weight& to, std::int64_t rows, std::int64_t cols, WeightUse use = WeightUse::matrix) {
    specs.push_back({use == WeightUse::vector ? DType::f32 : type, rows, cols, use});
    targets.push_back(&to);
  };
  const std::int64_t q = c.n_heads * c.head_dim, kv = c.n_kv_heads * c.head_dim;
  add(w.embedding, c.vocab_size, c.hidden);
  for (LayerWeights& l : w.layers) {
    add(l.attention_norm, 1, c.hidden, WeightUse::vector);
    add(l.query, q, c.hidden);
    add(l.key, kv, c.hidden);
    add(l.value, kv, c.hidden);
    add(l.attention_output, c.hidden, q);
    add(l.ffn_norm, 1, c.hidden, WeightUse::vector);
    add(l.gate, c.ffn_hidden, c.hidden, WeightUse::gate);
    add(l.up, c.ffn_hidden, c.hidden, WeightUse::up);
    add(l.down, c.hidden, c.ffn_hidden);
  }
  add(w.output_norm, 1, c.hidden, WeightUse::vector);
  add(w.output, c.vocab_size, c.hidden);
  const auto upload = backend.weights().upload(specs);
  std::mt19937 rng(1);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  for (std::size_t part = 0; part < upload->parts().size(); part++)
    upload->fill(part, [&](const WeightRange& range, void* dst) {
      const WeightSpec& s = specs[range.index];
      std::vector<float> values(static_cast<std::size_t>(s.cols));
      for (float& v : values) v = s.use == WeightUse::vector ? 1.0f : normal(rng);
      const std::size_t row = row_bytes(s.dtype, static_cast<std::size_t>(s.cols));
      auto* const out = static_cast<std::uint8_t*>(dst);
      quantize_row(s.dtype, values.data(), out, s.cols);
      for (std::size_t at = row; at < range.bytes; at += row) std::memcpy(out + at, out, row);
    });
  const std::vector<Weight> uploaded = upload->finish();
  for (std::size_t i = 0; i < uploaded.size(); i++) {
    *targets[i] = uploaded[i];
    w.bytes += row_bytes(specs[i].dtype, static_cast<std::size_t>(specs[i].cols)) *
               static_cast<std::size_t>(specs[i].rows);
  }
  return w;
}

struct Sequences {
  std::vector<std::vector<std::int32_t>> pages;
  std::vector<std::uint32_t> tokens;
};

/// Milliseconds of a step in which n sequences of `context` tokens each decode one token.
double decode_ms(Decoder& decoder, std::int32_t n, std::int32_t context, int steps) {
  const std::int32_t page = decoder.backend().info().page_tokens;
  const std::int32_t pages_each = (context + steps + 3 + page - 1) / page;
  std::vector<std::vector<std::int32_t>> pages(static_cast<std::size_t>(n));
  std::vector<std::uint32_t> tokens(static_cast<std::size_t>(n), 17);
  for (std::int32_t s = 0; s < n; s++)
    for (std::int32_t p = 0; p < pages_each; p++)
      pages[static_cast<std::size_t>(s)].push_back(s * pages_each + p);
  std::vector<double> times;
  for (int i = -3; i < steps; i++) {  // the first passes load kernels and record the graph
    std::vector<DecoderInput> inputs;
    for (std::size_t s = 0; s < tokens.size(); s++)
      inputs.push_back({std::span(tokens).subspan(s, 1), context + i + 3, pages[s], true});
    const auto begin = Clock::now();
    decoder.forward(inputs, nullptr);
    if (i >= 0) times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
  }
  return median(times);
}

double prefill_ms(Decoder& decoder, std::int32_t n, int repeat) {
  const std::int32_t page = decoder.backend().info().page_tokens, chunk = decoder.max_batch_tokens();
  std::vector<std::int32_t> pages;
  for (std::int32_t p = 0; p * page < n; p++) pages.push_back(p);
  const std::vector<std::uint32_t> tokens(static_cast<std::size_t>(n), 17);
  std::vector<double> times;
  for (int i = -1; i < repeat; i++) {
    const auto begin = Clock::now();
    for (std::int32_t at = 0; at < n; at += chunk) {
      const std::int32_t count = std::min(chunk, n - at);
      const DecoderInput input{
          std::span(tokens).subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(count)), at, pages,
          at + count == n};
      decoder.forward(std::span(&input, 1), nullptr);
    }
    if (i >= 0) times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
  }
  return median(times);
}

Json decode_result(Decoder& decoder, std::int32_t batch, std::int32_t context, std::int32_t steps,
                   std::uint64_t weight_bytes) {
  const double ms = decode_ms(decoder, batch, context, steps);
  return Json()
      .text("measure", "decode")
      .number("batch", batch)
      .number("context", context)
      .number("msPerStep", ms)
      .number("tokensPerSecond", 1e3 * batch / ms)
      .number("weightGBs", 1e-6 * static_cast<double>(weight_bytes) / ms);
}

Json prefill_result(Decoder& decoder, std::int32_t tokens, int repeat) {
  const double ms = prefill_ms(decoder, tokens, repeat);
  return Json()
      .text("measure", "prefill")
      .number("tokens", tokens)
      .number("ms", ms)
      .number("tokensPerSecond", 1e3 * tokens / ms);
}

/// The comma-separated numbers of an option.
std::vector<std::int32_t> numbers(const std::string& list) {
  std::vector<std::int32_t> out;
  for (const std::string& n : split(list)) out.push_back(std::atoi(n.c_str()));
  return out;
}

int run(int argc, char** argv) {
  const std::string file = argument(argc, argv, "model", ""), shapes = argument(argc, argv, "shapes", "8b"),
                    type = argument(argc, argv, "type", "BF16");
  const bool tiny = shapes == "tiny";
  BackendOptions options;
  options.device = argument(argc, argv, "device", cuda::device_kind());
  auto backend = create_backend(options);
  ModelConfig config;
  ModelWeights weights;
  if (file.empty()) {
    config = config_of(shapes);
    weights = random_weights(config, type_of(type), *backend);
  } else {
    const GgufFile gguf = GgufFile::open(file);
    config = read_config(gguf);
    weights = load_weights(gguf, config, *backend, WeightSource::read, false, nullptr, CancelFlag{});
  }
  const std::uint64_t weight_bytes = weights.bytes;
  const auto context = std::atoi(argument(argc, argv, "context", tiny ? "70" : "1024").c_str());
  const auto steps = std::atoi(argument(argc, argv, "steps", tiny ? "1" : "64").c_str());
  const std::vector<std::int32_t> batches =
      numbers(argument(argc, argv, "batches", tiny ? "1,2" : "1,2,4,8,16,32,64"));
  const std::vector<std::int32_t> prefills =
      numbers(argument(argc, argv, "prefill", tiny ? "40" : "512,2048"));
  std::int32_t max_batch = 1, max_prompt = 1;
  for (const std::int32_t n : batches) max_batch = std::max(max_batch, n);
  for (const std::int32_t n : prefills) max_prompt = std::max(max_prompt, n);
  const std::int32_t page = backend->info().page_tokens;
  const std::int32_t n_pages =
      std::max(max_batch * ((context + steps + 3 + page - 1) / page), (max_prompt + page - 1) / page);
  const std::string device = backend->info().device;
  Decoder decoder(config, std::move(backend), std::move(weights), {DType::f16, n_pages},
                  std::max({max_prompt, max_batch, 64}), max_batch);
  std::vector<Json> results;
  for (const std::int32_t n : batches)
    results.push_back(decode_result(decoder, n, context, steps, weight_bytes));
  for (const std::int32_t n : prefills) results.push_back(prefill_result(decoder, n, tiny ? 1 : 5));
  std::printf("%s\n", Json()
                          .list("machine", {machine(0)})
                          .text("device", device)
                          .text("model", file.empty() ? shapes + " " + type : file)
                          .number("weightBytes", static_cast<double>(weight_bytes))
                          .list("results", results)
                          .str()
                          .c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return cria::bench::run_program(run, argc, argv); }
