#include "io/hf_folder.h"

#include <cmath>

#include "expect_error.h"
#include "folder_builder.h"

using namespace cria;
using namespace cria::test;

namespace {

// One layer: hidden 4, two heads of 2 over one, feed-forward 6, vocabulary 3.
constexpr std::string_view kLayer = "model.layers.0.";

std::string floats(std::size_t n) { return file_bytes(std::vector<float>(n, 1.0f)); }

std::vector<TensorToStore> tensors() {
  const std::string layer(kLayer);
  const auto f32 = [](const std::string& name, std::vector<std::uint64_t> shape) {
    std::size_t n = 1;
    for (const std::uint64_t dim : shape) n *= dim;
    return TensorToStore{name, "F32", std::move(shape), floats(n)};
  };
  return {f32("model.embed_tokens.weight", {3, 4}),
          f32(layer + "input_layernorm.weight", {4}),
          f32(layer + "self_attn.q_proj.weight", {4, 4}),
          f32(layer + "self_attn.k_proj.weight", {2, 4}),
          f32(layer + "self_attn.v_proj.weight", {2, 4}),
          f32(layer + "self_attn.o_proj.weight", {4, 4}),
          f32(layer + "post_attention_layernorm.weight", {4}),
          f32(layer + "mlp.gate_proj.weight", {6, 4}),
          f32(layer + "mlp.up_proj.weight", {6, 4}),
          f32(layer + "mlp.down_proj.weight", {4, 6}),
          f32("model.norm.weight", {4}),
          f32("lm_head.weight", {3, 4})};
}

/// config.json with `more` members behind the usual ones.
std::string config(const std::string& more = "", const std::string& type = "llama") {
  return "{\"model_type\":\"" + type +
         "\",\"hidden_size\":4,\"intermediate_size\":6,\"num_hidden_layers\":1,\"num_attention_heads\":2,"
         "\"num_key_value_heads\":1,\"vocab_size\":3,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":64" +
         (more.empty() ? "" : "," + more) + "}";
}

MemoryFolder folder_of(const std::string& json, const std::vector<TensorToStore>& list) {
  return {{{"m/config.json", json}, {"m/model.safetensors", safetensors_file(list)}}};
}

std::unique_ptr<AssembledSource> open(const MemoryFolder& folder) {
  return open_hf_folder("m", folder.opener());
}
std::unique_ptr<AssembledSource> open_config(const std::string& more, const std::string& type = "llama") {
  return open(folder_of(config(more, type), tensors()));
}

TensorToStore& named(std::vector<TensorToStore>& list, const std::string& name) {
  for (TensorToStore& tensor : list)
    if (tensor.name == name) return tensor;
  FAIL("no tensor " << name);
  return list.front();
}

std::vector<float> values_of(const AssembledSource& source, const std::string& name) {
  const GgufTensor* tensor = source.find_tensor(name);
  REQUIRE(tensor != nullptr);
  REQUIRE(tensor->dtype == DType::f32);
  std::vector<float> values(tensor->elements());
  source.read(*tensor, 0, values.data(), tensor->bytes);
  return values;
}

}  // namespace

TEST_CASE("hf: metadata and tensors under GGUF's names") {
  const auto source = open_config("");
  CHECK(source->format() == "huggingface");
  CHECK(source->path() == "m");
  CHECK(source->get_string("general.architecture") == "llama");
  CHECK(source->get_uint("llama.block_count") == 1);
  CHECK(source->get_uint("llama.context_length") == 64);
  CHECK(source->get_uint("llama.attention.head_count_kv") == 1);
  CHECK(source->get_uint("llama.attention.key_length") == 2);
  CHECK(source->get_float("llama.attention.layer_norm_rms_epsilon") == doctest::Approx(1e-5));
  CHECK(source->get_float("llama.rope.freq_base") == 10000);
  CHECK(source->find("llama.rope.scaling.type") == nullptr);
  const GgufTensor* gate = source->find_tensor("blk.0.ffn_gate.weight");
  REQUIRE(gate != nullptr);
  CHECK(gate->dims[0] == 4);
  CHECK(gate->dims[1] == 6);
  CHECK(source->tensors().front().name == "token_embd.weight");
  CHECK(source->tensors().back().name == "output.weight");
  CHECK_FALSE(source->is_mappable());
}

TEST_CASE("hf: a tied head is left out, whether the file has it or not") {
  std::vector<TensorToStore> list = tensors();
  CHECK(open(folder_of(config("\"tie_word_embeddings\":true"), list))->find_tensor("output.weight") ==
        nullptr);
  list.pop_back();
  CHECK(open(folder_of(config("\"tie_word_embeddings\":true"), list))->find_tensor("output.weight") ==
        nullptr);
  expect_error(ErrorCode::invalid_model, "lm_head.weight", [&] { (void)open(folder_of(config(), list)); });
}

TEST_CASE("hf: key-value heads are grouped as the model type's class says") {
  const std::string without =
      "{\"model_type\":\"mistral\",\"hidden_size\":4,\"intermediate_size\":6,"
      "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"vocab_size\":3";
  CHECK(open(folder_of(without + "}", tensors()))->get_uint("llama.attention.head_count_kv") == 8);
  CHECK(open(folder_of(without + ",\"num_key_value_heads\":null}", tensors()))
            ->get_uint("llama.attention.head_count_kv") == 2);
}

TEST_CASE("hf: scalings of RoPE, as written before and since transformers 5") {
  const auto linear = R"({"rope_type":"linear","factor":4.0,"rope_theta":5e5})";
  auto source = open_config(std::string("\"rope_parameters\":") + linear);
  CHECK(source->get_string("llama.rope.scaling.type") == "linear");
  CHECK(source->get_float("llama.rope.scaling.factor") == 4);
  CHECK(source->get_float("llama.rope.freq_base") == 500000);
  source = open_config(R"("rope_theta":2e4,"rope_scaling":{"type":"linear","factor":2})");
  CHECK(source->get_float("llama.rope.scaling.factor") == 2);
  CHECK(source->get_float("llama.rope.freq_base") == 20000);

  source = open_config(R"("rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":1,
      "high_freq_factor":4,"original_max_position_embeddings":16})");
  CHECK(values_of(*source, "rope_freqs.weight").size() == 1);
  CHECK(source->find("llama.rope.scaling.type") == nullptr);

  source = open_config(R"("rope_parameters":{"rope_type":"yarn","factor":4,"attention_factor":0.9,
      "beta_fast":16,"original_max_position_embeddings":16})");
  CHECK(source->get_string("llama.rope.scaling.type") == "yarn");
  CHECK(source->get_uint("llama.rope.scaling.original_context_length") == 16);
  CHECK(source->get_float("llama.rope.scaling.attn_factor") ==
        doctest::Approx(0.9 / (0.1 * std::log(4.0) + 1)));
  CHECK(source->get_float("llama.rope.scaling.beta_fast") == 16);

  source = open_config(R"("rope_scaling":{"rope_type":"longrope","factor":4,"long_factor":[2.5],
      "short_factor":[1.5],"original_max_position_embeddings":16})");
  CHECK(values_of(*source, "rope_factors_long.weight") == std::vector<float>{2.5f});
  CHECK(values_of(*source, "rope_factors_short.weight") == std::vector<float>{1.5f});
  CHECK(source->get_float("llama.rope.scaling.attn_factor") == doctest::Approx(std::sqrt(1.5)));
}

TEST_CASE("hf: a sliding window becomes a key where it is shorter than the context") {
  CHECK(open_config("\"sliding_window\":null", "mistral")->find("llama.attention.sliding_window") == nullptr);
  CHECK(open_config("\"sliding_window\":64", "mistral")->find("llama.attention.sliding_window") == nullptr);
  CHECK(open_config("\"sliding_window\":32", "mistral")->get_uint("llama.attention.sliding_window") == 32);
}

TEST_CASE("hf: experts are stacked, their router is F32") {
  std::vector<TensorToStore> list = tensors();
  std::erase_if(list, [](const TensorToStore& t) { return t.name.find(".mlp.") != std::string::npos; });
  const std::string moe = std::string(kLayer) + "block_sparse_moe.";
  list.push_back({moe + "gate.weight", "BF16", {2, 4}, std::string(16, '\0')});
  for (int expert = 0; expert < 2; ++expert) {
    const std::string prefix = moe + "experts." + std::to_string(expert) + ".";
    const std::vector<float> values(24, static_cast<float>(expert));
    list.push_back({prefix + "w1.weight", "F32", {6, 4}, file_bytes(values)});
    list.push_back({prefix + "w2.weight", "F32", {4, 6}, file_bytes(values)});
    list.push_back({prefix + "w3.weight", "F32", {6, 4}, file_bytes(values)});
  }
  const std::string json = config(R"("num_local_experts":2,"num_experts_per_tok":1)", "mixtral");
  const auto source = open(folder_of(json, list));
  CHECK(source->get_uint("llama.expert_count") == 2);
  CHECK(source->get_uint("llama.expert_used_count") == 1);
  CHECK(values_of(*source, "blk.0.ffn_gate_inp.weight").size() == 8);
  const std::vector<float> down = values_of(*source, "blk.0.ffn_down_exps.weight");
  REQUIRE(down.size() == 48);
  CHECK(down[23] == 0);
  CHECK(down[24] == 1);
  CHECK(source->find_tensor("blk.0.ffn_down_exps.weight")->n_dims == 3);
  list.pop_back();
  expect_error(ErrorCode::invalid_model, "experts.1.w3", [&] { (void)open(folder_of(json, list)); });
}

TEST_CASE("hf: shards") {
  const std::vector<TensorToStore> list = tensors();
  MemoryFolder folder{{{"m/config.json", config()}}};
  folder.files["m/a.safetensors"] = safetensors_file({list.begin(), list.begin() + 5});
  folder.files["m/b.safetensors"] = safetensors_file({list.begin() + 5, list.end()});
  const auto index = [&](const std::string& map) {
    folder.files["m/model.safetensors.index.json"] = "{\"weight_map\":{" + map + "}}";
  };
  index(R"("model.norm.weight":"b.safetensors","model.embed_tokens.weight":"a.safetensors")");
  CHECK(open(folder)->files().size() == 2);
  const auto refused = [&](ErrorCode code, const std::string& mentions) {
    expect_error(code, mentions, [&] { (void)open(folder); });
  };
  index(R"("model.norm.weight":"a.safetensors","x":"b.safetensors")");
  refused(ErrorCode::invalid_file, "expected in a.safetensors, found in b.safetensors");
  index(R"("x":"b.safetensors")");
  refused(ErrorCode::invalid_file, "found in no file");
  for (const std::string name : {"../b.safetensors", "/b.safetensors", "sub/b.safetensors", "..", "",
                                 "b\\\\c.safetensors", "b.safetensors\\u0000", "b.bin"}) {
    index("\"model.norm.weight\":\"" + name + "\"");
    refused(ErrorCode::invalid_file, "in the same folder");
  }
  index("");
  refused(ErrorCode::invalid_file, "weight_map");
  index(R"("model.norm.weight":7)");
  refused(ErrorCode::invalid_file, "weight_map");
  index(R"("model.norm.weight":"c.safetensors")");
  refused(ErrorCode::file_not_found, "c.safetensors");
  folder.files["m/b.safetensors"] = safetensors_file({list.begin() + 4, list.end()});
  index(R"("model.norm.weight":"b.safetensors","model.embed_tokens.weight":"a.safetensors")");
  refused(ErrorCode::invalid_model, "two, in two files");
}

TEST_CASE("hf: without weights, or with pickled ones") {
  std::vector<std::pair<TensorToPickle, std::vector<float>>> pickled;
  for (const TensorToStore& t : tensors())
    pickled.push_back({{.name = t.name, .shape = t.shape}, std::vector<float>(t.data.size() / 4, 1.0f)});
  MemoryFolder bin{{{"m/config.json", config()}, {"m/pytorch_model.bin", checkpoint_file(pickled)}}};
  CHECK(values_of(*open(bin), "blk.0.attn_q.weight") == std::vector<float>(16, 1.0f));
  bin.files["m/a.bin"] = bin.files["m/pytorch_model.bin"];
  bin.files.erase("m/pytorch_model.bin");
  bin.files["m/pytorch_model.bin.index.json"] = R"({"weight_map":{"model.norm.weight":"a.bin"}})";
  CHECK(open(bin)->files().size() == 1);

  MemoryFolder folder{{{"m/config.json", config()}}};
  expect_error(ErrorCode::file_not_found, "model.safetensors", [&] { (void)open(folder); });
  folder.files["m/pytorch_model.bin"] = "PK";
  expect_error(ErrorCode::invalid_file, "pytorch_model.bin", [&] { (void)open(folder); });
  expect_error(ErrorCode::file_not_found, "config.json", [&] { (void)open(MemoryFolder{}); });
}

TEST_CASE("hf: configurations that are refused") {
  struct Case {
    std::string more, mentions;
    ErrorCode code;
    std::string type = "llama";
  };
  constexpr ErrorCode kUnsupported = ErrorCode::unsupported_model, kInvalid = ErrorCode::invalid_file;
  const Case cases[] = {
      {"", "\"gemma2\"", kUnsupported, "gemma2"},
      {R"("architectures":["LlamaForSequenceClassification"])", "ForSequenceClassification", kUnsupported},
      {R"("hidden_act":"gelu")", "\"gelu\"", kUnsupported},
      {R"("partial_rotary_factor":0.5)", "0.5", kUnsupported},
      {R"("embedding_multiplier":12)", "embedding_multiplier", kUnsupported},
      {R"("rope_scaling":{"type":"dynamic","factor":2})", "dynamic NTK", kUnsupported},
      {R"("rope_scaling":{"rope_type":"proportional"})", "\"proportional\"", kUnsupported},
      {R"("rope_scaling":{"rope_type":"yarn","factor":2,"original_max_position_embeddings":8,
          "truncate":false})",
       "truncate", kUnsupported},
      {R"("rope_parameters":{"full_attention":{"rope_type":"default"}})", "differ among layers",
       kUnsupported},
      {R"("rope_scaling":{"rope_type":"linear"})", "factor", kInvalid},
      {R"("rope_scaling":{"rope_type":"linear","factor":"4"})", "factor", kInvalid},
      {R"("rope_scaling":"linear")", "rope_scaling", kInvalid},
      {R"("rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":1,
          "original_max_position_embeddings":16})",
       "low_freq_factor", kInvalid},
      {R"("rope_scaling":{"rope_type":"longrope","factor":4,"long_factor":[1,2],"short_factor":[1],
          "original_max_position_embeddings":16})",
       "1 factors", kInvalid},
      {R"("rope_theta":0)", "base", kInvalid},
      {R"("head_dim":3)", "head_dim", kInvalid},
      {R"("head_dim":1e9)", "head_dim", kInvalid},
      {R"("tie_word_embeddings":1)", "tie_word_embeddings", kInvalid},
      {R"("attention_bias":true)", "q_proj.bias", ErrorCode::invalid_model},
      {R"("quantization_config":{"quant_method":"gptq","bits":4})", "\"gptq\"", kUnsupported},
      {R"("quantization_config":{"quant_method":"awq"})", "\"awq\"", kUnsupported},
      {R"("quantization_config":{"quant_method":"bitsandbytes","load_in_4bit":true})", "\"bitsandbytes\"",
       kUnsupported},
      {R"("quantization_config":{"quant_method":"compressed-tensors","format":"pack-quantized"})",
       "\"pack-quantized\"", kUnsupported},
      {R"("quantization_config":{"quant_method":"compressed-tensors","format":"float-quantized",
          "config_groups":{"g":{"weights":{"num_bits":4,"type":"float"}}}})",
       "4 bits", kUnsupported},
      {R"("quantization_config":{"quant_method":"fp8","fmt":"e5m2"})", "e5m2", kUnsupported},
      {R"("quantization_config":{"quant_method":"fp8","weight_block_size":[128]})", "two sizes", kInvalid},
      {R"("quantization_config":{"quant_method":"fp8","weight_block_size":[0,128]})", "positive", kInvalid},
      {R"("quantization_config":{})", "quant_method", kInvalid},
  };
  for (const Case& c : cases) {
    CAPTURE(c.more);
    expect_error(c.code, c.mentions, [&] { (void)open_config(c.more, c.type); });
  }
  for (const std::string json : {"", "[]", "{", "{\"model_type\":\"llama\"}", "{\"model_type\":7}"}) {
    CAPTURE(json);
    expect_error(ErrorCode::invalid_file, "config.json", [&] { (void)open(folder_of(json, tensors())); });
  }
}

TEST_CASE("hf: tensors that are refused") {
  const auto refused = [](ErrorCode code, const std::string& mentions, auto change) {
    std::vector<TensorToStore> list = tensors();
    change(list);
    expect_error(code, mentions, [&] { (void)open(folder_of(config(), list)); });
  };
  const std::string q = std::string(kLayer) + "self_attn.q_proj.weight";
  refused(ErrorCode::invalid_model, "no such tensor", [](auto& list) { list.erase(list.begin()); });
  refused(ErrorCode::unsupported_model, "qweight", [](auto& list) {
    list.push_back({std::string(kLayer) + "self_attn.q_proj.qweight", "I32", {1}, floats(1)});
  });
  refused(ErrorCode::invalid_model, "q_proj.bias", [](auto& list) {
    list.push_back({std::string(kLayer) + "self_attn.q_proj.bias", "F32", {4}, floats(4)});
  });
  refused(ErrorCode::unsupported_model, "I32", [&](auto& list) { named(list, q).dtype = "I32"; });
  refused(ErrorCode::unsupported_model, "F64",
          [&](auto& list) { named(list, q) = {q, "F64", {4, 4}, floats(32)}; });
  refused(ErrorCode::invalid_model, "2 dimensions", [&](auto& list) { named(list, q).shape = {16}; });
  refused(ErrorCode::invalid_model, "1 dimension",
          [](auto& list) { named(list, "model.norm.weight").shape = {2, 2}; });
  refused(ErrorCode::invalid_model, "expected shape",
          [&](auto& list) { named(list, q) = {q, "F32", {3, 4}, floats(12)}; });
  refused(ErrorCode::invalid_model, "weight_scale",
          [&](auto& list) { named(list, q) = {q, "F8_E4M3", {4, 4}, std::string(16, '8')}; });
  const auto with_scale = [&](const TensorToStore& scale) {
    return [&, scale](auto& list) {
      named(list, q) = {q, "F8_E4M3", {4, 4}, std::string(16, '8')};
      list.push_back(scale);
    };
  };
  refused(ErrorCode::invalid_model, "for the rows", with_scale({q + "_scale", "F32", {3}, floats(3)}));
  refused(ErrorCode::invalid_model, "F32, F16 or BF16", with_scale({q + "_scale", "I32", {1}, floats(1)}));
  refused(ErrorCode::invalid_model, "scales up to",
          with_scale({q + "_scale", "F32", {1}, file_bytes({std::nanf("")})}));
}

TEST_CASE("hf: recommended sampling is carried along") {
  MemoryFolder folder = folder_of(config(), tensors());
  folder.files["m/generation_config.json"] =
      R"({"eos_token_id":[1,2],"temperature":0.6,"top_k":20,"top_p":0.9,"repetition_penalty":1.1})";
  const auto source = open(folder);
  CHECK(source->get_float("general.sampling.temp") == doctest::Approx(0.6));
  CHECK(source->get_uint("general.sampling.top_k") == 20);
  CHECK(source->get_float("general.sampling.penalty_repeat") == doctest::Approx(1.1));
  CHECK(source->find("general.sampling.min_p") == nullptr);
  folder.files["m/generation_config.json"] = R"({"temperature":"hot"})";
  expect_error(ErrorCode::invalid_file, "temperature", [&] { (void)open(folder); });
}

TEST_CASE("hf: chat templates") {
  MemoryFolder folder = folder_of(config(), tensors());
  folder.files["m/tokenizer_config.json"] = R"({"chat_template":"one"})";
  CHECK(open(folder)->get_string("tokenizer.chat_template") == "one");
  folder.files["m/tokenizer_config.json"] =
      R"({"chat_template":[{"name":"default","template":"d"},{"name":"tool-use","template":"t"}]})";
  const auto named_templates = open(folder);
  CHECK(named_templates->get_string("tokenizer.chat_template") == "d");
  CHECK(named_templates->get_string("tokenizer.chat_template.tool_use") == "t");
  CHECK(named_templates->get_array("tokenizer.chat_templates").string_at(0) == "tool_use");
  folder.files["m/chat_template.jinja"] = "file";
  const auto from_file = open(folder);
  CHECK(from_file->get_string("tokenizer.chat_template") == "file");
  CHECK(from_file->find("tokenizer.chat_templates") == nullptr);
  folder.files.erase("m/chat_template.jinja");
  for (const std::string json :
       {R"({"chat_template":7})", R"({"chat_template":[{"name":"x"}]})", "nothing"}) {
    folder.files["m/tokenizer_config.json"] = json;
    expect_error(ErrorCode::invalid_file, "tokenizer_config.json", [&] { (void)open(folder); });
  }
}
