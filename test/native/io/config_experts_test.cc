// Mixtures of experts: keys, and tensors of both forms.
#include "model/config_experts.h"

#include "expect_error.h"
#include "gguf_builder.h"
#include "model/weights.h"

using namespace cria;
using namespace cria::test;

namespace {

ModelConfig config_of(const GgufBuilder& b) { return read_config(open_bytes(b.build())); }

void expect_refused(ErrorCode code, const std::string& mentions, const GgufBuilder& b) {
  expect_error(code, mentions, [&] { (void)config_of(b); });
}

GgufBuilder mixture(bool stacked = true, std::uint32_t experts = 4, std::uint32_t used = 2) {
  return tiny_llama({.experts = experts, .experts_used = used, .stacked_experts = stacked});
}

}  // namespace

TEST_CASE("mixtures of experts: stacked, or a tensor for each") {
  for (const bool stacked : {true, false}) {
    const ModelConfig config = config_of(mixture(stacked));
    CHECK(config.n_experts == 4);
    CHECK(config.n_experts_used == 2);
    CHECK(config.ffn_hidden == 48);
    CHECK(config_of(mixture(stacked, 1, 1)).n_experts == 1);
    CHECK(config_of(mixture(stacked, 512, 512)).n_experts_used == 512);
  }
  CHECK(config_of(tiny_llama()).n_experts == 0);
  GgufBuilder b = tiny_llama();
  b.set("llama.expert_count", 0u).set("llama.expert_used_count", 0u);
  CHECK(config_of(b).n_experts == 0);
  // Writers drop last dimensions of 1.
  b = mixture(true, 1, 1);
  for (const char* name : {"ffn_gate_exps", "ffn_up_exps", "ffn_down_exps", "ffn_gate_inp"})
    b.tensor_named(std::string("blk.1.") + name + ".weight").dims.pop_back();
  CHECK(config_of(b).n_experts == 1);
  // llama.cpp does not read this key for "llama".
  b = mixture();
  b.set("llama.expert_feed_forward_length", 7u);
  CHECK(config_of(b).ffn_hidden == 48);
}

TEST_CASE("the same weights in both forms, each expert with its part of the stack") {
  const GgufFile stacked = open_bytes(mixture(true).build()), apart = open_bytes(mixture(false).build());
  const std::vector<WeightSpec> a = weight_specs(stacked, read_config(stacked)),
                                b = weight_specs(apart, read_config(apart));
  REQUIRE(a.size() == b.size());
  // The embedding, the output and its norm; for each layer, attention's five, two norms' and the router's.
  CHECK(a.size() == 3 + 2 * (7 + 3 * 4));
  for (std::size_t i = 0; i < a.size(); i++) {
    CHECK(a[i].rows == b[i].rows);
    CHECK(a[i].cols == b[i].cols);
    CHECK(a[i].use == b[i].use);
    CHECK(a[i].layer == b[i].layer);
  }
}

TEST_CASE("counts of experts that contradict each other") {
  for (const std::uint32_t used : {0u, 5u, 0xffffffffu})
    expect_refused(ErrorCode::invalid_model, "1 to 4, the number of experts", mixture(true, 4, used));
  GgufBuilder b = mixture();
  b.remove("llama.expert_used_count");
  expect_refused(ErrorCode::invalid_model, "llama.expert_used_count", b);
  b = tiny_llama();
  b.set("llama.expert_used_count", 2u);
  expect_refused(ErrorCode::invalid_model, "the model has no experts", b);
  expect_refused(ErrorCode::unsupported_model, "at most 512 experts", mixture(true, 513));
  b = mixture();
  b.set("llama.expert_group_count", 2u);
  expect_refused(ErrorCode::unsupported_model, "groups of experts", b);
  b.set("llama.expert_group_count", 1u);
  CHECK(config_of(b).n_experts == 4);
}

TEST_CASE("tensors of experts that are missing, have other shapes or do not belong") {
  GgufBuilder b = mixture();
  SUBCASE("no router") {
    b.remove_tensor("blk.1.ffn_gate_inp.weight");
    expect_refused(ErrorCode::invalid_model, "blk.1.ffn_gate_inp.weight", b);
  }
  SUBCASE("a router of another size") {
    b.tensor_named("blk.0.ffn_gate_inp.weight").dims = {32, 5};
    expect_refused(ErrorCode::invalid_model, "[32, 4]", b);
  }
  SUBCASE("no stack, and no single experts") {
    b.remove_tensor("blk.0.ffn_up_exps.weight");
    expect_refused(ErrorCode::invalid_model, "[32, 48, 4]", b);
  }
  SUBCASE("a stack of too few") {
    b.tensor_named("blk.0.ffn_down_exps.weight").dims = {48, 32, 3};
    expect_refused(ErrorCode::invalid_model, "[48, 32, 4]", b);
  }
  SUBCASE("a stack in four dimensions") {
    b.tensor_named("blk.0.ffn_down_exps.weight").dims = {48, 32, 2, 2};
    expect_refused(ErrorCode::invalid_model, "[48, 32, 4]", b);
  }
  SUBCASE("a missing expert") {
    b = mixture(false);
    b.remove_tensor("blk.1.ffn_down.3.weight");
    expect_refused(ErrorCode::invalid_model, "blk.1.ffn_down.3.weight", b);
  }
  SUBCASE("an expert of another type") {
    b = mixture(false);
    b.tensor_named("blk.1.ffn_down.2.weight").type = static_cast<std::uint32_t>(DType::f16);
    expect_refused(ErrorCode::unsupported_model, "one type, found F16 beside F32", b);
  }
  SUBCASE("one expert too many, and names that are none") {
    for (const char* name :
         {"ffn_gate.4", "ffn_gate.01", "ffn_gate.-1", "ffn_gate.", "ffn_gatex.1", "ffn_gate.99999999999"}) {
      b = mixture(false);
      b.tensor({std::string("blk.0.") + name + ".weight", {32, 48}});
      expect_refused(ErrorCode::unsupported_model, name, b);
    }
  }
  SUBCASE("an ordinary FFN beside the experts") {
    b.tensor({"blk.0.ffn_gate.weight", {32, 48}});
    expect_refused(ErrorCode::unsupported_model, "blk.0.ffn_gate.weight", b);
  }
  SUBCASE("experts without the key") {
    b.remove("llama.expert_count").remove("llama.expert_used_count");
    expect_refused(ErrorCode::unsupported_model, "blk.0.ffn_gate_inp.weight", b);
  }
}
