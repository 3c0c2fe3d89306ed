// Metadata and tensors -> ModelConfig: shapes, defaults, contradictions, refused variants.
#include "model/config.h"

#include <fstream>
#include <iterator>
#include <limits>

#include "expect_error.h"
#include "gguf_builder.h"
#include "model/config_keys.h"

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
    b.tensor({"blk.0.attn_rot_embd", {4}});
    b.set("llama.expert_count", 0u).set("llama.logit_scale", 1.0f).set("llama.attention.sliding_window", 64u);
    b.set("general.type", "model").set("llama.attention.scale", 0.35355339f);
    b.set("llama.rope.scaling.finetuned", true).set("llama.pooling_type", 3u);
    CHECK(config_of(b).warnings.empty());
  }
}

TEST_CASE("what llama.cpp ignores is ignored with a warning, and so is what nobody knows") {
  struct Case {
    const char* key;
    float value;
    const char* says;
  };
  for (const Case& c :
       {Case{"llama.attention.sliding_window", 16, " is 16 and is ignored"},
        Case{"llama.attention.scale", 0.5f, " is 0.5 and is ignored"},
        Case{"llama.embedding_scale", 5, " is 5 and is ignored"},
        Case{"llama.residual_scale", 2, "is ignored"}, Case{"llama.logit_scale", 3, "is ignored"},
        Case{"llama.attn_logit_softcapping", 50, "is ignored"},
        Case{"llama.attention.clamp_kqv", 8, "is ignored"},
        Case{"llama.rope.scaling.yarn_beta_fast", 8, "is ignored"},
        Case{"llama.ssm.state_size", 4, "is ignored"},
        Case{"llama.rope.freq_bass", 4, "\"llama.rope.freq_bass\" is not known"}}) {
    CAPTURE(c.key);
    GgufBuilder b = tiny_llama();
    b.set(c.key, c.value);
    const std::vector<std::string> warnings = config_of(b).warnings;
    REQUIRE(warnings.size() == 1);
    CHECK(warnings[0].find(c.key) != std::string::npos);
    CHECK(warnings[0].find(c.says) != std::string::npos);
    CHECK(key_warnings(open_bytes(b.build())) == warnings);
    b.set("general.architecture", "other");
    CHECK(key_warnings(open_bytes(b.build())).empty());
  }
  GgufBuilder b = tiny_llama();
  b.set("llama.use_parallel_residual", true).set("llama.use_parallel_residual2", "text");
  b.set_numbers<std::int32_t>("llama.rope.dimension_sections", GgufType::i32, {0, 8});
  b.set_strings("llama.classifier.output_labels", {"yes", "no"}).tensor({"something.else", {4}});
  CHECK(config_of(b).warnings.size() == 5);
  b.set("llama.use_parallel_residual", false)
      .set_numbers<std::int32_t>("llama.rope.dimension_sections", GgufType::i32, {0, 0});
  CHECK(config_of(b).warnings.size() == 3);
}

TEST_CASE("the documentation shows the table of keys") {
  std::string table;
  for (const KnownKey& key : known_keys()) {
    table += "| `" + std::string(key.name) + "` | " + std::string(name_of(key.role)) + " |";
    table += (key.note.empty() ? " " : " " + std::string(key.note) + " ") + "|\n";
  }
  std::ifstream file(CRIA_MODELS "/../docs/model-files.md");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::size_t begin = text.find("| `context_length`");
  REQUIRE(begin != std::string::npos);
  CHECK(text.substr(begin) == table);
}

TEST_CASE("biases, scales, a fused qkv, and small tensors of other float types") {
  GgufBuilder b = tiny_llama();
  SUBCASE("biases and scales") {
    for (const auto& [name, rows] :
         {std::pair{"attn_q", 32u}, std::pair{"attn_k", 16u}, std::pair{"attn_v", 16u},
          std::pair{"attn_output", 32u}, std::pair{"ffn_gate", 48u}, std::pair{"ffn_up", 48u},
          std::pair{"ffn_down", 32u}}) {
      const std::string prefix = std::string("blk.1.") + name;
      GgufBuilder other = b;
      other.tensor({prefix + ".bias", {rows}}).tensor({prefix + ".scale", {1}});
      other.tensor({prefix + ".input_scale", {1}});
      CHECK(config_of(other).warnings.empty());
      other.tensor_named(prefix + ".bias").dims = {rows + 1};
      expect_refused(ErrorCode::invalid_model, prefix + ".bias", other);
      other.tensor_named(prefix + ".bias") = {prefix + ".bias", {rows}, 8};
      if (rows % 32 == 0) expect_refused(ErrorCode::unsupported_model, prefix + ".bias", other);
      other.remove_tensor(prefix + ".bias").tensor_named(prefix + ".scale").dims = {2};
      expect_refused(ErrorCode::invalid_model, prefix + ".scale", other);
      other.tensor_named(prefix + ".scale") = {
          prefix + ".scale", {1}, 0, float_bytes({std::numeric_limits<float>::infinity()})};
      expect_refused(ErrorCode::invalid_model, "a finite scale", other);
    }
  }
  SUBCASE("a scale of the output, unless the output is the embedding") {
    (void)config_of(b.tensor({"output.scale", {1}}));
    expect_refused(ErrorCode::unsupported_model, "output.scale",
                   tiny_llama({.tied = true}).tensor({"output.scale", {1}}));
    expect_refused(ErrorCode::unsupported_model, "output.bias", b.tensor({"output.bias", {40}}));
  }
  SUBCASE("q, k and v as one matrix") {
    b.remove_tensor("blk.1.attn_q.weight").remove_tensor("blk.1.attn_k.weight");
    b.remove_tensor("blk.1.attn_v.weight").tensor({"blk.1.attn_qkv.weight", {32, 64}});
    (void)config_of(b);
    (void)config_of(b.tensor({"blk.1.attn_qkv.bias", {64}}).tensor({"blk.1.attn_qkv.scale", {1}}));
    b.tensor_named("blk.1.attn_qkv.bias").dims = {32};
    expect_refused(ErrorCode::invalid_model, "blk.1.attn_qkv.bias", b);
    b.remove_tensor("blk.1.attn_qkv.bias").tensor({"blk.1.attn_k.bias", {16}});
    expect_refused(ErrorCode::invalid_model, "\"blk.1.attn_k.bias\": expected no such tensor beside", b);
    b.remove_tensor("blk.1.attn_k.bias").tensor_named("blk.1.attn_qkv.weight").dims = {32, 96};
    expect_refused(ErrorCode::invalid_model, "blk.1.attn_qkv.weight", b);
    b = tiny_llama();
    expect_refused(ErrorCode::invalid_model, "beside \"blk.0.attn_qkv.weight\"",
                   b.tensor({"blk.0.attn_qkv.bias", {64}}));
  }
  SUBCASE("norms") {
    for (const std::uint32_t type : {1u, 30u}) {
      b.tensor_named("blk.0.ffn_norm.weight").type = type;
      b.tensor_named("output_norm.weight").type = type;
      (void)config_of(b);
    }
    b.tensor_named("output_norm.weight").type = 8;
    expect_refused(ErrorCode::unsupported_model, "expected F32, F16 or BF16, found Q8_0", b);
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
  SUBCASE("norms inside attention") {
    b.tensor({"blk.1.attn_q_norm.weight", {8}});
    expect_refused(ErrorCode::unsupported_model, "attn_q_norm", b);
  }
  SUBCASE("bidirectional") {
    b.set("llama.attention.causal", false);
    expect_refused(ErrorCode::unsupported_model, "causal", b);
  }
  SUBCASE("layers of different sizes") {
    b.set_numbers<std::uint32_t>("llama.attention.head_count_kv", GgufType::u32, {2, 4});
    expect_refused(ErrorCode::unsupported_model, "2 in layer 0 and 4 in layer 1", b);
  }
  SUBCASE("values of another size than keys") {
    b.set("llama.attention.key_length", 8u).set("llama.attention.value_length", 16u);
    expect_refused(ErrorCode::unsupported_model, "value_length", b);
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
