// Metadata and tensors -> ModelConfig: shapes, defaults, contradictions, refused variants.
#include "model/config.h"

#include <limits>

#include "expect_error.h"
#include "gguf_builder.h"

using namespace cria;
using namespace cria::test;

namespace {

ModelConfig config_of(const GgufBuilder& b) { return read_config(open_bytes(b.build())); }

void expect_refused(ErrorCode code, const std::string& mentions, const GgufBuilder& b) {
  expect_error(code, mentions, [&] { (void)config_of(b); });
}

}  // namespace

TEST_CASE("the shape of a grouped-query Llama") {
  const ModelConfig config = config_of(tiny_llama());
  CHECK(config.architecture == "llama");
  CHECK(config.name == "tiny");
  CHECK(config.vocab_size == 40);
  CHECK(config.hidden == 32);
  CHECK(config.n_layers == 2);
  CHECK(config.n_heads == 4);
  CHECK(config.n_kv_heads == 2);
  CHECK(config.head_dim == 8);
  CHECK(config.ffn_hidden == 48);
  CHECK(config.context_length == 64);
  CHECK(config.rms_norm_eps == 1e-5f);
  CHECK(config.rope_layout == RopeLayout::interleaved);
  CHECK(config.rope_dim == 8);
  CHECK(config.rope_base == 10000);
  CHECK(config.rope_scaling == "none");
  CHECK(config.rope_inv_freq.size() == 4);
  CHECK_FALSE(config.tied_output);
}

TEST_CASE("other shapes of Llama") {
  SUBCASE("multi-query") { CHECK(config_of(tiny_llama({.kv_heads = 1})).n_kv_heads == 1); }
  SUBCASE("multi-head by default") {
    GgufBuilder b = tiny_llama({.kv_heads = 4});
    b.remove("llama.attention.head_count_kv");
    CHECK(config_of(b).n_kv_heads == 4);
  }
  SUBCASE("a head size that is not hidden / heads") {
    CHECK(config_of(tiny_llama({.heads = 3, .kv_heads = 1, .head_dim = 16})).head_dim == 16);
  }
  SUBCASE("tied output") { CHECK(config_of(tiny_llama({.tied = true})).tied_output); }
  SUBCASE("no vocab_size key") {
    GgufBuilder b = tiny_llama();
    b.remove("llama.vocab_size");
    CHECK(config_of(b).vocab_size == 40);
  }
  SUBCASE("per-layer arrays of equal values") {
    GgufBuilder b = tiny_llama();
    b.set_numbers<std::int32_t>("llama.attention.head_count", GgufType::i32, {4, 4});
    b.set_numbers<std::uint32_t>("llama.attention.head_count_kv", GgufType::u32, {2, 2});
    b.set_numbers<std::uint32_t>("llama.feed_forward_length", GgufType::u32, {48, 48});
    CHECK(config_of(b).n_kv_heads == 2);
  }
  SUBCASE("sizes as 64-bit numbers, epsilon as double") {
    GgufBuilder b = tiny_llama();
    b.set("llama.block_count", GgufType::u64, std::uint64_t{2})
        .set("llama.context_length", GgufType::i64, std::int64_t{64});
    b.set("llama.attention.layer_norm_rms_epsilon", GgufType::f64, 1e-6);
    CHECK(config_of(b).rms_norm_eps == 1e-6f);
  }
  SUBCASE("harmless extras") {
    GgufBuilder b = tiny_llama();
    b.tensor({"blk.0.attn_rot_embd", {4}}).tensor({"something.else", {4}});
    b.set("llama.expert_count", 0u).set("llama.logit_scale", 1.0f).set("llama.attention.sliding_window", 64u);
    b.set("general.type", "model").set("llama.attention.scale", 0.35355339f);
    (void)config_of(b);
  }
}

TEST_CASE("other architectures and files are refused by name") {
  for (const char* architecture : {"qwen2", "gemma3", "phi3", "", "LLAMA"}) {
    GgufBuilder b = tiny_llama();
    b.set("general.architecture", architecture);
    expect_refused(ErrorCode::unsupported_model, std::string("\"").append(architecture).append("\""), b);
  }
  GgufBuilder b = tiny_llama();
  SUBCASE("none") {
    b.remove("general.architecture");
    expect_refused(ErrorCode::invalid_model, "general.architecture", b);
  }
  SUBCASE("an adapter") {
    b.set("general.type", "adapter");
    expect_refused(ErrorCode::unsupported_model, "adapter", b);
  }
  SUBCASE("a vocabulary") {
    b.tensors.clear();
    expect_refused(ErrorCode::invalid_model, "vocabulary without tensors", b);
  }
}

TEST_CASE("unsupported variants are refused") {
  GgufBuilder b = tiny_llama();
  SUBCASE("experts") {
    b.set("llama.expert_count", 8u);
    expect_refused(ErrorCode::unsupported_model, "mixture of experts", b);
  }
  SUBCASE("biases") {
    b.tensor({"blk.1.attn_q.bias", {32}});
    expect_refused(ErrorCode::unsupported_model, "\"blk.1.attn_q.bias\": a Llama with biases", b);
  }
  SUBCASE("norms inside attention") {
    b.tensor({"blk.1.attn_q_norm.weight", {8}});
    expect_refused(ErrorCode::unsupported_model, "attn_q_norm", b);
  }
  SUBCASE("long-rope factors") {
    b.tensor({"rope_factors_long.weight", {4}});
    expect_refused(ErrorCode::unsupported_model, "rope_factors_long", b);
  }
  SUBCASE("sliding window") {
    b.set("llama.attention.sliding_window", 16u);
    expect_refused(ErrorCode::unsupported_model, "sliding-window", b);
  }
  SUBCASE("bidirectional") {
    b.set("llama.attention.causal", false);
    expect_refused(ErrorCode::unsupported_model, "causal", b);
  }
  SUBCASE("soft caps") {
    b.set("llama.attn_logit_softcapping", 50.0f);
    expect_refused(ErrorCode::unsupported_model, "softcapping", b);
  }
  SUBCASE("attention scale") {
    b.set("llama.attention.scale", 0.5f);
    expect_refused(ErrorCode::unsupported_model, "attention.scale", b);
  }
  SUBCASE("layers of different sizes") {
    b.set_numbers<std::uint32_t>("llama.attention.head_count_kv", GgufType::u32, {2, 4});
    expect_refused(ErrorCode::unsupported_model, "2 in layer 0 and 4 in layer 1", b);
  }
  SUBCASE("values of another size than keys") {
    b.set("llama.attention.key_length", 8u).set("llama.attention.value_length", 16u);
    expect_refused(ErrorCode::unsupported_model, "value_length", b);
  }
  SUBCASE("norms of another type") {
    b.tensor_named("blk.0.ffn_norm.weight").type = 1;
    expect_refused(ErrorCode::unsupported_model, "norm weights must be F32, found F16", b);
  }
}

TEST_CASE("metadata out of range") {
  struct Case {
    const char* key;
    std::uint32_t value;
  };
  for (const Case& c : {Case{"llama.attention.head_count", 0},
                        Case{"llama.attention.head_count", 1025},
                        Case{"llama.attention.head_count", 3},
                        Case{"llama.attention.head_count_kv", 0},
                        Case{"llama.attention.head_count_kv", 3},
                        Case{"llama.attention.head_count_kv", 8},
                        Case{"llama.block_count", 0},
                        Case{"llama.block_count", 1},
                        Case{"llama.block_count", 3},
                        Case{"llama.block_count", 0xffffffff},
                        Case{"llama.embedding_length", 0},
                        Case{"llama.embedding_length", 64},
                        Case{"llama.embedding_length", 0xffffffff},
                        Case{"llama.feed_forward_length", 0},
                        Case{"llama.feed_forward_length", 64},
                        Case{"llama.context_length", 0},
                        Case{"llama.context_length", 0xffffffff},
                        Case{"llama.vocab_size", 0},
                        Case{"llama.vocab_size", 41},
                        Case{"llama.attention.key_length", 0},
                        Case{"llama.attention.key_length", 7},
                        Case{"llama.attention.key_length", 16},
                        Case{"llama.rope.dimension_count", 0},
                        Case{"llama.rope.dimension_count", 7},
                        Case{"llama.rope.dimension_count", 10}}) {
    CAPTURE(c.key);
    CAPTURE(c.value);
    GgufBuilder b = tiny_llama();
    b.set(c.key, c.value);
    expect_refused(ErrorCode::invalid_model, "", b);
  }
  for (const char* key :
       {"llama.embedding_length", "llama.block_count", "llama.feed_forward_length", "llama.context_length",
        "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon"}) {
    GgufBuilder b = tiny_llama();
    b.remove(key);
    expect_refused(ErrorCode::invalid_model, "the key is missing", b);
    b.set(key, "text");
    expect_refused(ErrorCode::invalid_model, "found a string", b);
    b.set(key, GgufType::i32, -1);
    expect_refused(ErrorCode::invalid_model, "found -1", b);
  }
  const float inf = std::numeric_limits<float>::infinity();
  for (const float epsilon :
       {0.0f, -1e-5f, 1e-45f, 1.0f, inf, -inf, std::numeric_limits<float>::quiet_NaN()}) {
    GgufBuilder b = tiny_llama();
    b.set("llama.attention.layer_norm_rms_epsilon", epsilon);
    expect_refused(ErrorCode::invalid_model, "layer_norm_rms_epsilon", b);
  }
}

TEST_CASE("odd head sizes") {
  expect_refused(ErrorCode::invalid_model, "an even head size",
                 tiny_llama({.hidden = 36, .heads = 4, .kv_heads = 2, .head_dim = 9}));
}

TEST_CASE("tensors that contradict the metadata") {
  for (const TensorSpec& spec : tiny_llama().tensors) {
    CAPTURE(spec.name);
    GgufBuilder b = tiny_llama();
    if (spec.name != "output.weight") {
      b.remove_tensor(spec.name);
      expect_refused(ErrorCode::invalid_model, spec.name, b);
      b = tiny_llama();
    }
    b.tensor_named(spec.name).dims[0] += 32;
    expect_refused(ErrorCode::invalid_model, spec.name, b);
    b = tiny_llama();
    b.tensor_named(spec.name).dims.push_back(1);
    expect_refused(ErrorCode::invalid_model, spec.name, b);
    if (spec.dims.size() == 2) {
      b = tiny_llama();
      b.tensor_named(spec.name).dims[1] += 1;
      // With more rows in the embedding than tokens in the vocabulary, the error names the metadata.
      expect_refused(ErrorCode::invalid_model,
                     spec.name == "token_embd.weight" ? "llama.vocab_size" : spec.name, b);
    }
  }
  GgufBuilder b = tiny_llama();
  SUBCASE("one layer too many") {
    b.tensor({"blk.2.attn_norm.weight", {32}});
    expect_refused(ErrorCode::invalid_model,
                   "\"blk.2.attn_norm.weight\": expected a layer below llama.block_count", b);
  }
  SUBCASE("a layer number beyond 64 bits") {
    b.tensor({"blk.99999999999999999999.attn_norm.weight", {32}});
    expect_refused(ErrorCode::unsupported_model, "expected a name like", b);
  }
  SUBCASE("another number of tokens") {
    b.set_strings("tokenizer.ggml.tokens", std::vector<std::string>(41, "x"));
    expect_refused(ErrorCode::invalid_model, "41 tokens", b);
  }
}
