// The whole CUDA backend on the emulated device: against the CPU, with and without graphs, and with a failure
// at every call of the runtime.
#include <cstdlib>
#include <optional>

#include "cuda/failures.h"
#include "cuda_emulation/device_memory.h"
#include "cuda_emulation/runtime_twin.h"
#include "engine/engine_fixture.h"
#include "random_inputs.h"

using namespace cria;
using namespace cria::test;
using namespace cria::cuda::emulation;
using cuda::DriverState;
using cuda::Failure;

namespace {

LoadOptions demo_options(const std::string& device = kTestDevice, DType kv_dtype = DType::f16) {
  LoadOptions options;
  options.path = kDemoModel;
  options.backend.device = device;
  options.kv_dtype = kv_dtype;
  options.context_length = 128;
  options.prefill_chunk = 16;
  options.kv_memory = std::uint64_t{4} << 20;
  return options;
}
LoadedModel load(const LoadOptions& options) { return load_model(options, nullptr, CancelFlag{}); }

/// Decodes several sequences together: prompts of different lengths, then steps of one token each.
class Streams {
 public:
  Streams(Decoder& decoder, std::int32_t n) : decoder_(decoder) {
    for (std::int32_t s = 0; s < n; s++) {
      std::vector<std::uint32_t> tokens;
      for (std::int32_t i = 0; i < 3 + s % 5; i++)
        tokens.push_back(static_cast<std::uint32_t>(5 + s * 13 + i * 7));
      tokens_.push_back(std::move(tokens));
      pages_.push_back({s * 2, s * 2 + 1});
    }
    std::vector<DecoderInput> inputs;
    for (std::size_t s = 0; s < tokens_.size(); s++) inputs.push_back({tokens_[s], 0, pages_[s], true});
    forward(inputs);
  }
  void step() {
    std::vector<DecoderInput> inputs;
    for (std::size_t s = 0; s < tokens_.size(); s++) {
      tokens_[s].push_back(sampled_[s]);
      inputs.push_back(
          {std::span(tokens_[s]).last(1), static_cast<std::int32_t>(tokens_[s].size()) - 1, pages_[s], true});
    }
    forward(inputs);
  }
  /// Of all steps so far.
  std::vector<float> logits;
  std::uint64_t calls_of_last = 0;  // of the runtime

 private:
  void forward(const std::vector<DecoderInput>& inputs) {
    const std::uint64_t before = runtime_calls();
    decoder_.forward(inputs, nullptr);
    calls_of_last = runtime_calls() - before;
    sampled_.resize(inputs.size());
    decoder_.sample(std::vector<SampleRow>(inputs.size()), sampled_);
    for (std::size_t s = 0; s < inputs.size(); s++) {
      const auto row = decoder_.logits(s);
      logits.insert(logits.end(), row.begin(), row.end());
    }
  }
  Decoder& decoder_;
  std::vector<std::vector<std::uint32_t>> tokens_;
  std::vector<std::vector<std::int32_t>> pages_;
  std::vector<std::uint32_t> sampled_;  // after the last step, greedily
};

struct Environment {
  explicit Environment(const char* value) { setenv("CRIA_CUDA_GRAPHS", value, 1); }
  ~Environment() { unsetenv("CRIA_CUDA_GRAPHS"); }
};

}  // namespace

TEST_CASE("the device describes itself, and its memory is what the cache is planned with") {
  const LoadedModel loaded = load(demo_options());
  const BackendInfo& info = loaded.decoder->backend().info();
  CHECK(info.device == "cuda-emulated:0");
  CHECK(info.isa == "sm_90");
  CHECK(info.page_tokens == 64);
  CHECK(info.kv_layout == "cuda-1");
  CHECK(info.device_reason.find("emulated device") != std::string::npos);
  const std::size_t total = total_device_memory();
  set_total_device_memory(std::size_t{64} << 20);
  LoadOptions options = demo_options();
  options.kv_memory = 0;
  options.context_length = 0;
  const LoadedModel small = load(options);
  CHECK(small.kv_bytes <= std::size_t{64} << 19);
  set_total_device_memory(total);
}

TEST_CASE("the logits of the CPU, and the same greedy tokens") {
  for (const DType kv : {DType::f32, DType::f16}) {
    LoadedModel cpu = load(demo_options("cpu", kv)), device = load(demo_options(kTestDevice, kv));
    Streams a(*cpu.decoder, 3), b(*device.decoder, 3);
    for (int i = 0; i < 4; i++) {
      a.step();
      b.step();
    }
    // With quantized activations, the last bit of RMSNorm can change an integer by one.
    CHECK(relative_error(b.logits, std::vector<double>(a.logits.begin(), a.logits.end())) < 0.02);
  }
}

TEST_CASE("rows that need only the logits are sampled on the device: the tokens of the host's sampler") {
  const std::array<SampleRow, 2> rows = {
      SampleRow{.temperature = 0.7, .seed = 5, .position = 9},
      SampleRow{.temperature = 1.5, .top_k = 12, .top_p = 0.8, .min_p = 0.02, .seed = 6, .position = 10}};
  std::array<std::uint32_t, 2> sampled{};
  {
    LoadedModel loaded = load(demo_options());
    Streams streams(*loaded.decoder, 2);
    loaded.decoder->sample(rows, sampled);
    for (std::size_t i = 0; i < rows.size(); i++) {
      SamplingParams params;
      params.temperature = rows[i].temperature;
      params.top_k = rows[i].top_k;
      params.top_p = rows[i].top_p;
      params.min_p = rows[i].min_p;
      params.seed = rows[i].seed;
      Sampler sampler(params, loaded.decoder->config().vocab_size);
      CHECK(sampled[i] == sampler.sample(loaded.decoder->logits(i), {}, rows[i].position).id);
    }
    LoadedModel on_cpu = load(demo_options("cpu"));
    Streams others(*on_cpu.decoder, 2);
    on_cpu.decoder->sample(rows, sampled);
    CHECK(sampled == std::array{kSampleOnHost, kSampleOnHost});
  }
  // In the engine, in one batch of all kinds of requests: the host samples those with log-probabilities, the
  // device the others.
  Fixture f(load(demo_options()));
  std::vector<std::pair<RequestId, RequestId>> pairs;
  for (std::uint64_t seed = 1; seed <= 6; seed++) {
    GenerateRequest r = story(6, 0.5 + 0.2 * static_cast<double>(seed), seed);
    r.sampling.top_k = seed % 2 ? 0 : 20;
    r.sampling.top_p = seed % 3 ? 1 : 0.9;
    r.sampling.min_p = seed % 4 ? 0 : 0.05;
    if (seed == 5) r.sampling.typical_p = 0.9;  // sampled by the host in both
    if (seed == 6) r.sampling.repetition_penalty = 1.3;
    GenerateRequest with_logprobs = r;
    with_logprobs.sampling.logprobs = 0;
    const RequestId plain = f.engine->submit(r);
    pairs.emplace_back(plain, f.engine->submit(with_logprobs));
  }
  for (const auto& [plain, with_logprobs] : pairs) {
    const auto tokens = f.sink->wait(plain).tokens;
    CHECK(tokens.size() == 6);
    CHECK(tokens == f.sink->wait(with_logprobs).tokens);
  }
}

TEST_CASE("a step of decoding is one graph, with the bits that it has without") {
  for (const std::int32_t n : {1, 3, 9}) {
    if (kSanitized && n != 3) continue;
    CAPTURE(n);
    std::optional<std::vector<float>> without;
    for (const char* graphs : {"0", "1"}) {
      const Environment environment(graphs);
      LoadedModel loaded = load(demo_options());
      Streams streams(*loaded.decoder, n);
      std::uint64_t calls = 0;
      for (int i = 0; i < 4; i++) {
        streams.step();
        calls = streams.calls_of_last;
      }
      if (!without) {
        CHECK(calls > 40);
        without = streams.logits;
      } else {
        CHECK(calls <= 4);  // device, copy, launch, wait
        CHECK(same_bits(streams.logits, *without));
      }
    }
  }
}

TEST_CASE("a graph goes on as sequences come, go and grow beyond a page") {
  std::optional<std::vector<float>> without;
  for (const char* graphs : {"0", "1"}) {
    const Environment environment(graphs);
    LoadedModel loaded = load(demo_options());
    std::vector<float> logits;
    const auto run = [&](std::vector<std::pair<std::int32_t, std::int32_t>> page_and_position) {
      std::vector<std::array<std::int32_t, 2>> pages;
      std::vector<std::uint32_t> tokens;
      for (const auto& [page, position] : page_and_position) {
        pages.push_back({page, page + 1});
        tokens.push_back(static_cast<std::uint32_t>(10 + page * 31 + position));
      }
      std::vector<DecoderInput> inputs;
      for (std::size_t i = 0; i < pages.size(); i++)
        inputs.push_back({std::span(tokens).subspan(i, 1), page_and_position[i].second, pages[i], true});
      loaded.decoder->forward(inputs, nullptr);
      for (std::size_t i = 0; i < inputs.size(); i++) {
        const auto row = loaded.decoder->logits(i);
        logits.insert(logits.end(), row.begin(), row.end());
      }
    };
    std::vector<std::uint32_t> prompt(62);
    for (std::size_t i = 0; i < prompt.size(); i++) prompt[i] = static_cast<std::uint32_t>(20 + i * 3);
    const std::array<std::int32_t, 2> pages = {4, 5};
    for (std::size_t at = 0; at < prompt.size(); at += 16) {
      const auto part = std::span(prompt).subspan(at, std::min<std::size_t>(16, prompt.size() - at));
      const DecoderInput input{part, static_cast<std::int32_t>(at), pages, false};
      loaded.decoder->forward(std::span(&input, 1), nullptr);
    }
    run({{4, 62}, {0, 0}, {2, 0}});
    run({{4, 63}, {2, 1}, {0, 1}});
    run({{4, 64}, {0, 2}, {2, 2}});
    run({{2, 3}, {4, 65}, {6, 0}, {0, 3}});
    run({{0, 4}, {4, 66}, {6, 1}});
    if (!without)
      without = logits;
    else
      CHECK(same_bits(logits, *without));
  }
}

TEST_CASE("'auto' takes the device that is there and large enough, and says why not") {
  set_device_kind("cuda");
  const auto why = [](const LoadOptions& options) {
    const LoadedModel loaded = load(options);
    const BackendInfo& info = loaded.decoder->backend().info();
    return info.device + ": " + info.device_reason;
  };
  const auto contains = [](const std::string& text, const char* part) {
    CAPTURE(text);
    CHECK(text.find(part) != std::string::npos);
  };
  contains(why(demo_options("auto")), "cuda:0: auto: a CUDA device");
  contains(why(demo_options("cuda")), "cuda:0: asked for by name");
  LoadOptions mapped = demo_options("auto");
  mapped.mmap = true;
  contains(why(mapped), "cpu: auto: mmap");
  mapped.backend.device = "cuda";
  CHECK(error_of([&] { load(mapped); })->code() == ErrorCode::unsupported_device);

  const std::size_t total = total_device_memory();
  set_total_device_memory(std::size_t{2} << 20);
  contains(why(demo_options("auto")),
           "cpu: auto: the model needs about 7 MiB on the CUDA device, which has 2 MiB");
  set_total_device_memory(total);
  // It was estimated to fit, and did not.
  LoadOptions large = demo_options("auto");
  large.kv_memory = std::uint64_t{4} << 20;
  fail_call(12, Failure::out_of_memory);
  contains(why(large), "cpu: auto: ");
  cancel_failure();

  for (const auto& [state, version, says] : {std::tuple{DriverState::missing, 0, "no NVIDIA driver"},
                                             std::tuple{DriverState::too_old, 12040, "driver 580 or newer"},
                                             std::tuple{DriverState::no_device, 13000, "no device"},
                                             std::tuple{DriverState::broken, 13000, "does not work"}}) {
    set_driver(state, version);
    contains(why(demo_options("auto")), says);
    const auto error = error_of([] { load(demo_options("cuda")); });
    REQUIRE(error.has_value());
    CHECK(error->code() == ErrorCode::unsupported_device);
    contains(error->what(), says);
  }
  set_driver(DriverState::ready, 13000);
  contains(error_of([] { load(demo_options("cuda:3")); })->what(), "no CUDA device 3");
  CHECK(error_of([] { load(demo_options("cuda:x")); })->code() == ErrorCode::invalid_argument);
  set_device_kind("cuda-emulated");
  CHECK(error_of([] { load(demo_options("cuda")); })->code() == ErrorCode::unsupported_device);
  contains(why(demo_options("auto")), "cpu: auto: this build");
}

TEST_CASE("too little memory is told with numbers and what helps") {
  const std::size_t total = total_device_memory();
  for (const std::size_t memory : {std::size_t{1} << 20, std::size_t{5} << 20}) {  // the weights, the cache
    set_total_device_memory(memory);
    const auto error = error_of([] { load(demo_options()); });
    REQUIRE(error.has_value());
    CHECK(error->code() == ErrorCode::out_of_memory);
    CHECK(error->details()[0].name == "requestedBytes");
    CHECK(error->details()[1].name == "availableBytes");
    CHECK(error->details()[0].value.number() > error->details()[1].value.number());
    CHECK(std::string(error->what()).find("use a smaller model") != std::string::npos);
  }
  set_total_device_memory(total);
  CHECK(device_allocations() == 0);
}

namespace {

const std::pair<Failure, ErrorCode> kFailures[] = {{Failure::invalid_call, ErrorCode::internal},
                                                   {Failure::out_of_memory, ErrorCode::out_of_memory},
                                                   {Failure::device_lost, ErrorCode::device_lost}};

/// A prompt that shares no prefix with others.
GenerateRequest request(std::uint32_t i) {
  GenerateRequest r = story(4, 0.8, 3);
  r.prompt = std::vector<TokenId>{100 + i, 200 + i % 50, 40, 50, 60};
  return r;
}

void restart() {
  restore_device();
  CHECK(device_allocations() == 0);
}

}  // namespace

TEST_CASE("a failure at any call of a load is a typed error, leaks nothing, and the next load works") {
  for (const auto& [failure, code] : kFailures) {
    bool failed = true;
    std::uint64_t n = 1;
    int in_disposal = 0;
    for (; failed; n++) {
      CAPTURE(n);
      fail_call(n, failure);
      const auto error = error_of([] { load(demo_options()); });
      failed = !cancel_failure();
      if (error) CHECK(error->code() == code);
      in_disposal += failed && !error;  // not reported to the caller
      restart();
      CHECK(queued_work() == 0);
    }
    CHECK(n > 100);
    CHECK(in_disposal <= 8);
    MESSAGE("calls of a load: " << n - 2);
  }
}

TEST_CASE("a failure at any call of a request ends it with a typed error; the next one works, or says why") {
  const std::vector<TokenId> expected = [] {
    Fixture f(load(demo_options()));
    return f.sink->wait(f.engine->submit(request(7))).tokens;
  }();
  REQUIRE(expected.size() == 4);
  for (const auto& [failure, code] : kFailures) {
    std::unique_ptr<Fixture> f;
    std::uint64_t n = 1;
    int requests = 0;
    for (bool failed = true; failed; n += kCallStep) {
      CAPTURE(n);
      // Every twentieth engine is new: its graphs have not been captured.
      if (!f || ++requests % 20 == 0) f = std::make_unique<Fixture>(load(demo_options()));
      fail_call(n, failure);
      const auto result = f->sink->wait(f->engine->submit(request(static_cast<std::uint32_t>(n))));
      failed = !cancel_failure();
      const std::string said = result.error ? result.error->what() : "";
      CAPTURE(said);
      if (!failed) {
        CHECK(result.tokens.size() == 4);
        break;
      }
      if (result.error) CHECK(result.error->code() == code);
      if (result.error && result.error->code() == ErrorCode::internal)
        CHECK(std::string(result.error->what()).find("an invalid argument") != std::string::npos);
      if (failure == Failure::device_lost) {
        REQUIRE(result.error.has_value());
        const auto next = f->sink->wait(f->engine->submit(request(7)));
        REQUIRE(next.error.has_value());
        CHECK(next.error->code() == ErrorCode::device_lost);
        CHECK(next.error->details().back().value.text() == "process");
        f.reset();  // disposes of an engine on a lost device
        restart();
      } else if (requests % 4 == 0) {
        const auto next = f->sink->wait(f->engine->submit(request(7)));
        const std::string next_said = next.error ? next.error->what() : "";
        CAPTURE(next_said);
        CHECK(next.tokens == expected);
      }
    }
    CHECK(n > 60);
    MESSAGE("calls of a request: " << n - 1);
    f.reset();
    restart();
  }
}

TEST_CASE("a failed copy of pages, save or restore leaves the cache as it was") {
  Fixture f(load(demo_options()));
  std::string text = "One day a small bear found a red kite in the park.";
  GenerateRequest first = story(3), second = story(3);
  first.prompt = PromptText{{{text + " He was glad", false}}, std::nullopt};
  second.prompt = PromptText{{{text + " She cried", false}}, std::nullopt};
  const auto expected = f.sink->wait(f.engine->submit(second)).tokens;
  const auto state = f.sink->wait(f.engine->submit(SaveStateRequest{first.prompt})).state;
  REQUIRE(state);
  const auto check_next = [&](Fixture& g) {
    const auto next = g.sink->wait(g.engine->submit(second));
    const std::string said = next.error ? next.error->what() : "";
    CAPTURE(said);
    CHECK(next.tokens == expected);
  };
  for (const auto& [failure, code] : kFailures) {
    if (failure == Failure::device_lost) continue;
    for (std::uint64_t n = 1; n < 25; n += kCallStep) {
      Fixture g(load(demo_options()));
      g.sink->wait(g.engine->submit(first));
      fail_call(n, failure);  // among them the copy of the partly shared page
      const auto result = g.sink->wait(g.engine->submit(second));
      cancel_failure();
      if (result.error) CHECK(result.error->code() == code);
      check_next(g);
    }
    for (std::uint64_t n = 1;; n += kCallStep) {
      Fixture g(load(demo_options()));
      fail_call(n, failure);
      const auto result = g.sink->wait(g.engine->submit(RestoreStateRequest{state}));
      const bool failed = !cancel_failure();
      if (!failed) break;
      REQUIRE(result.error.has_value());
      CHECK(result.error->code() == code);
      CHECK(g.engine->stats().pages_cached == 0);
      if (n % 4 == 1) check_next(g);
    }
  }
}
