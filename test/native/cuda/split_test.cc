// A model on two backends: the last layers on the emulated device, the others on the CPU.

#include "cuda/failures.h"
#include "cuda_emulation/device_memory.h"
#include "cuda_emulation/runtime_twin.h"
#include "engine/engine_fixture.h"
#include "random_inputs.h"

using namespace cria;
using namespace cria::test;
using namespace cria::cuda::emulation;
using cuda::Failure;

namespace {

constexpr std::int32_t kLayers = 6;  // of the demo model

LoadOptions split_options(std::int32_t gpu_layers, DType kv_dtype = DType::f16) {
  LoadOptions options;
  options.path = kDemoModel;
  options.backend.device = kTestDevice;
  options.backend.gpu_layers = gpu_layers;
  options.backend.threads = 2;
  options.kv_dtype = kv_dtype;
  options.context_length = 256;
  options.prefill_chunk = 48;
  options.kv_memory = std::uint64_t{6} << 20;
  return options;
}
LoadedModel load(const LoadOptions& options) { return load_model(options, nullptr, CancelFlag{}); }

/// Longer than a page of the device, so that pages of both backends begin and end within it.
Prompt long_prompt() {
  std::vector<TokenId> ids;
  for (std::uint32_t i = 0; i < 90; i++) ids.push_back(5 + i * 37 % 1900);
  return ids;
}
GenerateRequest long_story(std::int32_t max_tokens) {
  GenerateRequest r = story(max_tokens);
  r.prompt = long_prompt();
  return r;
}
std::vector<float> logits_of(Fixture& f) {
  return f.sink->wait(f.engine->submit(LogitsRequest{std::get<std::vector<TokenId>>(long_prompt())})).logits;
}

/// Sets the device's memory while it lives.
struct DeviceOf {
  explicit DeviceOf(std::size_t bytes) { set_total_device_memory(bytes); }
  ~DeviceOf() { set_total_device_memory(before); }
  const std::size_t before = total_device_memory();
};

}  // namespace

TEST_CASE("every division of the layers gives the CPU's tokens and its logits") {
  LoadOptions cpu_options = split_options(-1, DType::f32);
  cpu_options.backend.device = "cpu";
  Fixture cpu(load(cpu_options));
  const std::vector<TokenId> expected = cpu.sink->wait(cpu.engine->submit(long_story(12))).tokens;
  const std::vector<float> cpu_logits = logits_of(cpu);
  const std::vector<double> expected_logits(cpu_logits.begin(), cpu_logits.end());
  REQUIRE(expected.size() == 12);
  for (std::int32_t layers = 0; layers <= kLayers; layers += kSanitized ? 3 : 1) {
    CAPTURE(layers);
    LoadedModel loaded = load(split_options(layers, DType::f32));
    const BackendInfo info = loaded.decoder->backend().info();
    CHECK(info.gpu_layers == layers);
    CHECK(info.device == (layers == 0 ? "cpu" : "cuda-emulated:0"));
    CHECK(info.page_tokens == (layers == 0 ? 32 : 64));
    if (layers > 0 && layers < kLayers) {
      CHECK(info.kv_layout == "cpu-1+cuda-1@" + std::to_string(kLayers - layers));
      CHECK(info.device_reason.find(std::to_string(layers) + " of 6 layers on the device, as gpuLayers") ==
            0);
      CHECK(info.max_batch_tokens == 512);
    }
    Fixture f(std::move(loaded));
    CHECK(f.sink->wait(f.engine->submit(long_story(12))).tokens == expected);
    // With quantized activations, the last bit of RMSNorm can change an integer by one.
    CHECK(relative_error(logits_of(f), expected_logits) < 0.02);
  }
  CHECK(device_allocations() == 0);
}

TEST_CASE("divided layers: the same tokens alone, together, in other chunks, and with and without graphs") {
  const auto options_of = [](std::int32_t chunk) {
    LoadOptions options = split_options(3);
    options.prefill_chunk = chunk;
    return options;
  };
  const auto request = [](std::uint32_t i) {
    GenerateRequest r = story(10, i % 2 ? 0.9 : 0, 11 + i);
    std::vector<TokenId> ids;
    for (std::uint32_t k = 0; k < 4 + 17 * i; k++) ids.push_back(7 + (i * 101 + k * 13) % 1900);
    r.prompt = ids;
    return r;
  };
  const std::uint32_t n = kSanitized ? 2 : 5;
  std::vector<std::vector<TokenId>> alone;
  {
    Fixture f(load(options_of(48)));
    for (std::uint32_t i = 0; i < n; i++) alone.push_back(f.sink->wait(f.engine->submit(request(i))).tokens);
  }
  for (const char* graphs : {"0", "1"}) {
    CAPTURE(graphs);
    setenv("CRIA_CUDA_GRAPHS", graphs, 1);
    Fixture f(load(options_of(13)));
    unsetenv("CRIA_CUDA_GRAPHS");
    std::vector<RequestId> ids;
    for (std::uint32_t i = 0; i < n; i++) ids.push_back(f.engine->submit(request(i)));
    for (std::size_t i = 0; i < ids.size(); i++) {
      CAPTURE(i);
      CHECK(f.sink->wait(ids[i]).tokens == alone[i]);
    }
  }
}

TEST_CASE("divided layers: the device's part of a step of decoding is one graph") {
  LoadedModel loaded = load(split_options(4));
  const std::array<std::int32_t, 1> pages = {3};
  std::uint64_t calls = 0;
  for (std::int32_t position = 0; position < 5; position++) {
    const std::array<std::uint32_t, 1> token = {static_cast<std::uint32_t>(40 + position)};
    const DecoderInput input{token, position, pages, true};
    const std::uint64_t before = runtime_calls();
    REQUIRE(loaded.decoder->forward(std::span(&input, 1), nullptr));
    calls = runtime_calls() - before;
  }
  CHECK(calls <= 10);  // x to the device (device, copy, wait), the pass (device, copy, launch, wait), x back
}

TEST_CASE("divided layers: prefixes are shared, and pages that begin alike copied, on both sides") {
  Fixture f(load(split_options(2)));
  const std::vector<TokenId> fresh = f.sink->wait(f.engine->submit(long_story(8))).tokens;
  auto result = f.sink->wait(f.engine->submit(long_story(8)));
  CHECK(result.tokens == fresh);
  CHECK(result.end->usage.cached_tokens == 89);  // a full page, and the second one's copy
  GenerateRequest other = long_story(8);
  std::get<std::vector<TokenId>>(other.prompt)[75] = 3;  // differs within the second page
  Fixture g(load(split_options(2)));
  const std::vector<TokenId> expected = g.sink->wait(g.engine->submit(other)).tokens;
  result = f.sink->wait(f.engine->submit(other));
  CHECK(result.tokens == expected);
  CHECK(result.end->usage.cached_tokens == 75);
}

TEST_CASE("divided layers: a state is saved and restored, and fits the same division alone") {
  LoadedModel loaded = load(split_options(3)), other = load(split_options(2));
  CHECK(loaded.state_header.layout == "cpu-1+cuda-1@3");
  CHECK(other.state_header.layout == "cpu-1+cuda-1@4");
  CHECK(loaded.state_header.page_bytes * kLayers == loaded.decoder->kv().page_bytes());
  Fixture f(std::move(loaded));
  const std::vector<TokenId> expected = f.sink->wait(f.engine->submit(long_story(8))).tokens;
  const auto state = f.sink->wait(f.engine->submit(SaveStateRequest{long_prompt()})).state;
  REQUIRE(state);
  Fixture g(load(split_options(3)));
  REQUIRE(g.sink->wait(g.engine->submit(RestoreStateRequest{state})).restored == 90);
  const auto result = g.sink->wait(g.engine->submit(long_story(8)));
  CHECK(result.tokens == expected);
  CHECK(result.end->usage.cached_tokens == 89);
  // Saved again it is the same, byte for byte: it contains nothing of other sequences.
  const auto again = g.sink->wait(g.engine->submit(SaveStateRequest{long_prompt()})).state;
  REQUIRE(again);
  REQUIRE(again->pages.size() == state->pages.size());
  CHECK(std::equal(again->pages.data(), again->pages.data() + again->pages.size(), state->pages.data()));
}

TEST_CASE("divided layers: mapped weights stay in the file on the CPU's side") {
  Fixture read(load(split_options(3)));
  LoadOptions options = split_options(3);
  options.mmap = true;
  Fixture mapped(load(options));
  const auto tokens = read.sink->wait(read.engine->submit(long_story(6))).tokens;
  CHECK(mapped.sink->wait(mapped.engine->submit(long_story(6))).tokens == tokens);
}

TEST_CASE("a device too small for the model gets as many layers as fit, and is told why") {
  LoadOptions options = split_options(-1);
  options.context_length = 64;
  options.kv_memory = std::uint64_t{48} << 20;  // 8 MiB per layer, far more than the weights
  const auto loaded_on = [&](std::size_t device_memory, const char* device) {
    const DeviceOf small(device_memory);
    options.backend.device = device;
    LoadedModel loaded = load(options);
    const BackendInfo info = loaded.decoder->backend().info();
    Fixture f(std::move(loaded));
    CHECK(f.sink->wait(f.engine->submit(story(3))).tokens.size() == 3);
    return info;
  };
  std::int32_t before = 0;
  for (const std::size_t mib : {12, 24, 40, 56, 80}) {
    CAPTURE(mib);
    const BackendInfo info = loaded_on(mib << 20, kTestDevice);
    CHECK(info.gpu_layers > before);
    before = info.gpu_layers;
    CAPTURE(info.device_reason);
    if (mib == 40)
      CHECK(
          info.device_reason.starts_with("4 of 6 layers on the device, since the model needs about 56 MiB on "
                                         "the CUDA device, which has 40 MiB free; asked for by name"));
  }
  CHECK(before == kLayers);
  set_device_kind("cuda");
  const BackendInfo some = loaded_on(std::size_t{40} << 20, "auto");
  CHECK(some.device == "cuda:0");
  CHECK(some.gpu_layers == 4);
  const BackendInfo none = loaded_on(std::size_t{12} << 20, "auto");  // room for one layer of six
  CHECK(none.device == "cpu");
  CHECK(none.gpu_layers == 0);
  set_device_kind("cuda-emulated");
  const DeviceOf tiny(std::size_t{4} << 20);
  const auto error = error_of([&] {
    options.backend.device = kTestDevice;
    load(options);
  });
  REQUIRE(error.has_value());
  CHECK(error->code() == ErrorCode::out_of_memory);
  CHECK(std::string(error->what()).find("too little for one of its layers") != std::string::npos);
}

TEST_CASE("gpuLayers that cannot be are refused") {
  const auto refused = [](LoadOptions options, const char* says) {
    const auto error = error_of([&] { load(options); });
    REQUIRE(error.has_value());
    CHECK(error->code() == ErrorCode::invalid_argument);
    CHECK(std::string(error->what()) == says);
  };
  refused(split_options(7), "gpuLayers: expected at most 6, the layers of the model, found 7");
  LoadOptions cpu = split_options(2);
  cpu.backend.device = "cpu";
  refused(cpu, "gpuLayers: expected 0 with device 'cpu', found 2");
}

TEST_CASE("divided layers: a failure at any call of the device ends the request, and the next one works") {
  const auto request = [](std::uint32_t i) {
    GenerateRequest r = story(3);
    r.prompt = std::vector<TokenId>{100 + i, 200 + i % 50, 40, 50, 60};
    return r;
  };
  const std::vector<TokenId> expected = [&] {
    Fixture f(load(split_options(2)));
    return f.sink->wait(f.engine->submit(request(7))).tokens;
  }();
  REQUIRE(expected.size() == 3);
  for (const auto& [failure, code] : {std::pair{Failure::invalid_call, ErrorCode::internal},
                                      std::pair{Failure::device_lost, ErrorCode::device_lost}}) {
    std::unique_ptr<Fixture> f;
    int errors = 0;
    for (std::uint32_t n = 1;; n += kCallStep) {
      CAPTURE(n);
      if (!f) f = std::make_unique<Fixture>(load(split_options(2)));
      fail_call(n, failure);
      const auto result = f->sink->wait(f->engine->submit(request(n)));
      const bool failed = !cancel_failure();
      if (!failed) {
        CHECK(result.tokens.size() == 3);
        break;
      }
      REQUIRE(result.error.has_value());
      CHECK(result.error->code() == code);
      errors++;
      const auto next = f->sink->wait(f->engine->submit(request(7)));
      if (failure == Failure::device_lost) {
        REQUIRE(next.error.has_value());
        CHECK(next.error->code() == ErrorCode::device_lost);
        f.reset();
        restore_device();
      } else {
        CHECK(next.tokens == expected);
      }
    }
    CHECK(errors > 30 / static_cast<int>(kCallStep));
    f.reset();
    CHECK(device_allocations() == 0);
  }
}
