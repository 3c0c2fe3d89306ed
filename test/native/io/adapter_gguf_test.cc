// Adapters in GGUF: what is read, and what is refused with which error.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <string>

#include "io/adapter_builder.h"
#include "io/expect_error.h"
#include "io/temp_dir.h"
#include "model/adapter.h"

using namespace cria;
using namespace cria::test;

namespace {

const CancelFlag kNever;

ModelConfig tiny_config() { return read_config(open_bytes(tiny_llama().build())); }

GgufBuilder tiny_adapter() { return random_adapter(tiny_config(), 1, 3, 6.0f); }

AdapterFile read_built(const GgufBuilder& gguf) {
  const TempDir dir;
  return read_adapter(write_file(dir.path / "adapter.gguf", gguf.build()), tiny_config(), kNever);
}

void expect_refused(ErrorCode code, const std::string& mentions,
                    const std::function<void(GgufBuilder&)>& edit) {
  GgufBuilder gguf = tiny_adapter();
  edit(gguf);
  expect_error(code, mentions, [&] { read_built(gguf); });
}

}  // namespace

TEST_CASE("a GGUF adapter: its matrices, scale and fingerprint") {
  GgufBuilder gguf = tiny_adapter();
  gguf.set("general.name", "tiny adapter");
  const AdapterFile file = read_built(gguf);
  CHECK(file.info.format == "gguf");
  CHECK(file.info.name == "tiny adapter");
  CHECK(file.info.rank == 3);
  REQUIRE(file.matrices.size() == 14);
  std::uint64_t parameters = 0;
  for (const AdapterMatrix& m : file.matrices) {
    CHECK(m.scale == 2.0f);
    CHECK(m.rank == 3);
    parameters += m.a.size() + m.b.size();
  }
  CHECK(file.info.parameters == parameters);
  CHECK(file.matrices[7].layer == 1);
  CHECK(file.matrices[0].projection == Projection::query);
  // Rows as in the file: [rank, cols], and those of B in the order of the model's GGUF.
  CHECK(float_bytes(file.matrices[0].a) == gguf.tensors[0].data);
  CHECK(float_bytes(file.matrices[0].b) == gguf.tensors[1].data);
  CHECK(read_built(gguf).info.fingerprint == file.info.fingerprint);
  gguf.set("adapter.lora.alpha", 7.0f);
  CHECK(read_built(gguf).info.fingerprint != file.info.fingerprint);
}

TEST_CASE("a GGUF adapter without alpha, or with 0, adds its update as it is") {
  GgufBuilder gguf = tiny_adapter();
  gguf.set("adapter.lora.alpha", 0.0f);
  CHECK(read_built(gguf).matrices[0].scale == 1.0f);
  gguf.remove("adapter.lora.alpha");
  CHECK(read_built(gguf).matrices[0].scale == 1.0f);
}

TEST_CASE("a GGUF adapter in F16 and BF16, of some matrices only") {
  for (const std::uint32_t type : {1u, 30u}) {
    GgufBuilder gguf = tiny_adapter();
    gguf.tensors.resize(2);
    for (TensorSpec& spec : gguf.tensors) {
      spec.type = type;
      spec.data.clear();
      for (std::uint64_t i = 0; i < spec.dims[0] * spec.dims[1]; i++) {
        const std::uint16_t one_and_a_half = type == 1 ? 0x3e00 : 0x3fc0;
        spec.data.push_back(static_cast<std::uint8_t>(one_and_a_half & 0xff));
        spec.data.push_back(static_cast<std::uint8_t>(one_and_a_half >> 8));
      }
    }
    const AdapterFile file = read_built(gguf);
    REQUIRE(file.matrices.size() == 1);
    for (const float value : file.matrices[0].a) CHECK(value == 1.5f);
  }
}

TEST_CASE("a GGUF that is no LoRA adapter of this architecture") {
  expect_refused(ErrorCode::invalid_model, "general.type", [](auto& g) { g.remove("general.type"); });
  expect_refused(ErrorCode::invalid_model, "expected \"adapter\", found \"model\"",
                 [](auto& g) { g.set("general.type", "model"); });
  expect_refused(ErrorCode::unsupported_model, "control_vector",
                 [](auto& g) { g.set("adapter.type", "control_vector"); });
  expect_refused(ErrorCode::invalid_model, "adapter.type", [](auto& g) { g.remove("adapter.type"); });
  expect_refused(ErrorCode::invalid_model, "expected \"llama\", found \"qwen2\"",
                 [](auto& g) { g.set("general.architecture", "qwen2"); });
  expect_refused(ErrorCode::invalid_model, "general.architecture",
                 [](auto& g) { g.remove("general.architecture"); });
  expect_refused(ErrorCode::unsupported_model, "activated LoRA", [](auto& g) {
    g.set_numbers("adapter.alora.invocation_tokens", GgufType::u32, std::vector<std::uint32_t>{1});
  });
  expect_refused(ErrorCode::invalid_model, "finite", [](auto& g) { g.set("adapter.lora.alpha", NAN); });
  expect_refused(ErrorCode::invalid_model, "finite", [](auto& g) { g.set("adapter.lora.alpha", INFINITY); });
  expect_refused(ErrorCode::invalid_model, "adapter.lora.alpha",
                 [](auto& g) { g.set("adapter.lora.alpha", "6"); });
  expect_refused(ErrorCode::invalid_model, "at least one projection", [](auto& g) { g.tensors.clear(); });
}

TEST_CASE("a GGUF adapter of another model: the shapes are named") {
  expect_refused(ErrorCode::invalid_model,
                 "expected shape [rank, 32] (the model's matrix is [32, 32]), found [3, 64]",
                 [](auto& g) { g.tensors[0] = {"blk.0.attn_q.weight.lora_a", {64, 3}}; });
  expect_refused(ErrorCode::invalid_model,
                 "expected shape [48, 3] (the model's matrix is [48, 32]), found [40, 3]", [](auto& g) {
                   g.tensor_named("blk.1.ffn_up.weight.lora_b") = {"blk.1.ffn_up.weight.lora_b", {3, 40}};
                 });
  expect_refused(ErrorCode::invalid_model, "a layer below 2, the model's number of them, found layer 2",
                 [](auto& g) { g.tensor({"blk.2.attn_q.weight.lora_a", {32, 3}}); });
  expect_refused(ErrorCode::invalid_model, "layer 18446744073709551615",
                 [](auto& g) { g.tensor({"blk.18446744073709551615.attn_q.weight.lora_a", {32, 3}}); });
}

TEST_CASE("a GGUF adapter that contradicts itself") {
  // Transposed, as llama.cpp's old "finetune" wrote them.
  expect_refused(ErrorCode::invalid_model, "expected shape [rank, 32]",
                 [](auto& g) { g.tensors[0].dims = {3, 32}; });
  expect_refused(ErrorCode::invalid_model, "expected shape [32, 3]",
                 [](auto& g) { g.tensors[1].dims = {2, 32}; });
  expect_refused(ErrorCode::invalid_model, "its counterpart",
                 [](auto& g) { g.remove_tensor("blk.1.ffn_down.weight.lora_b"); });
  expect_refused(ErrorCode::invalid_model, "one tensor for its place",
                 [](auto& g) { g.tensor({"blk.01.attn_q.weight.lora_a", {32, 3}}); });
  expect_refused(ErrorCode::invalid_model, "a matrix, found 3 dimensions",
                 [](auto& g) { g.tensors[0].dims = {32, 3, 1}; });
}

TEST_CASE("GGUF adapters of what cria does not adapt are refused by name") {
  const auto refused = [](const std::string& name, const std::string& mentions) {
    expect_refused(ErrorCode::unsupported_model, mentions, [&](auto& g) { g.tensor({name, {32, 3}}); });
  };
  refused("token_embd.weight.lora_a", "tensor \"token_embd.weight.lora_a\": only the projections");
  refused("output.weight.lora_b", "tensor \"output.weight.lora_b\"");
  refused("blk.0.ffn_up_exps.weight.lora_a", "experts and their router");
  refused("blk.0.ffn_gate_inp.weight.lora_a", "experts and their router");
  refused("blk.0.attn_q.bias", "only .lora_a and .lora_b");
  refused("blk.0.attn_qkv.weight.lora_a", "only the projections");
  refused("blk.x.attn_q.weight.lora_a", "only the projections");
  refused("blk.0", "only .lora_a and .lora_b");
  refused(".lora_a", "only the projections");
  expect_refused(ErrorCode::unsupported_model, "an adapter in Q8_0 is not supported",
                 [](auto& g) { g.tensors[0] = {g.tensors[0].name, {32, 3}, 8}; });
}

TEST_CASE("an adapter's file that is truncated, missing or no GGUF") {
  const TempDir dir;
  std::vector<std::uint8_t> bytes = tiny_adapter().build();
  for (const std::size_t size : {bytes.size() - 1, bytes.size() / 2, std::size_t{20}}) {
    const std::vector<std::uint8_t> part(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
    const std::string path = write_file(dir.path / "part.gguf", part);
    expect_error(ErrorCode::invalid_file, "part.gguf", [&] { read_adapter(path, tiny_config(), kNever); });
  }
  expect_error(ErrorCode::file_not_found, "none.gguf",
               [&] { read_adapter(dir.path / "none.gguf", tiny_config(), kNever); });
  expect_error(ErrorCode::invalid_file, "text.gguf", [&] {
    read_adapter(write_file(dir.path / "text.gguf", {'h', 'e', 'l', 'l', 'o'}), tiny_config(), kNever);
  });
}

TEST_CASE("reading an adapter stops when it is cancelled") {
  const TempDir dir;
  const std::string path = write_file(dir.path / "adapter.gguf", tiny_adapter().build());
  CancelFlag cancelled;
  cancelled.cancel();
  expect_error(ErrorCode::aborted, "", [&] { read_adapter(path, tiny_config(), cancelled); });
}
