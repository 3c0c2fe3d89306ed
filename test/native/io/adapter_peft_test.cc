// Adapters in PEFT folders: what is read, and what is refused with which error.
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "io/adapter_builder.h"
#include "io/expect_error.h"
#include "io/temp_dir.h"
#include "model/adapter.h"

using namespace cria;
using namespace cria::test;

namespace {

const CancelFlag kNever;

struct PeftTensor {
  std::vector<std::uint64_t> shape;
  std::vector<float> values;
  std::string type = "F32";
};

/// A folder as PEFT writes it: rank 2 on q and down of layer 1.
struct PeftFolder {
  std::map<std::string, std::string> config = {{"peft_type", R"("LORA")"},
                                               {"r", "2"},
                                               {"lora_alpha", "8"},
                                               {"bias", R"("none")"},
                                               {"use_rslora", "false"},
                                               {"use_dora", "false"},
                                               {"rank_pattern", "{}"},
                                               {"alpha_pattern", "{}"},
                                               {"init_lora_weights", "true"},
                                               {"modules_to_save", "null"},
                                               {"target_modules", R"(["q_proj", "down_proj"])"},
                                               {"task_type", R"("CAUSAL_LM")"}};
  std::map<std::string, PeftTensor> tensors;

  PeftFolder() {
    add("self_attn.q_proj", 32, 32, 2);
    add("mlp.down_proj", 32, 48, 2);
  }

  static std::string name(const std::string& module, const char* half) {
    return "base_model.model.model.layers.1." + module + ".lora_" + half + ".weight";
  }
  void add(const std::string& module, std::uint64_t rows, std::uint64_t cols, std::uint64_t rank) {
    tensors[name(module, "A")] = counted({rank, cols});
    tensors[name(module, "B")] = counted({rows, rank});
  }
  static PeftTensor counted(std::vector<std::uint64_t> shape) {
    std::uint64_t n = 1;
    for (const std::uint64_t dim : shape) n *= dim;
    PeftTensor tensor{.shape = std::move(shape)};
    for (std::uint64_t i = 0; i < n; i++) tensor.values.push_back(static_cast<float>(i));
    return tensor;
  }

  void write(const std::filesystem::path& folder) const {
    std::ofstream json(folder / "adapter_config.json");
    const char* separator = "{";
    for (const auto& [key, value] : config) {
      json << separator << '"' << key << "\": " << value;
      separator = ", ";
    }
    json << "}";
    std::string header;
    std::vector<std::uint8_t> data;
    for (const auto& [name, tensor] : tensors) {
      const std::vector<std::uint8_t> bytes = float_bytes(tensor.values);
      header +=
          (header.empty() ? "{\"" : ", \"") + name + R"(": {"dtype": ")" + tensor.type + R"(", "shape": [)";
      for (std::size_t d = 0; d < tensor.shape.size(); d++)
        header += (d ? ", " : "") + std::to_string(tensor.shape[d]);
      header += R"(], "data_offsets": [)" + std::to_string(data.size()) + ", " +
                std::to_string(data.size() + bytes.size()) + "]}";
      data.insert(data.end(), bytes.begin(), bytes.end());
    }
    header += header.empty() ? "{}" : "}";
    Bytes file;
    file.text(header);
    file.data.insert(file.data.end(), data.begin(), data.end());
    write_file(folder / "adapter_model.safetensors", file.data);
  }
};

ModelConfig tiny_config() { return read_config(open_bytes(tiny_llama().build())); }

AdapterFile read_folder(const PeftFolder& folder, const ModelConfig& config = tiny_config()) {
  const TempDir dir;
  folder.write(dir.path);
  return read_adapter(dir.path, config, kNever);
}

float scale_with(std::map<std::string, std::string> config) {
  PeftFolder folder;
  folder.config.merge(config);  // keeps what is there
  for (const auto& [key, value] : config) folder.config[key] = value;
  return read_folder(folder).matrices.at(0).scale;
}

void expect_refused(ErrorCode code, const std::string& mentions,
                    const std::function<void(PeftFolder&)>& edit) {
  PeftFolder folder;
  edit(folder);
  expect_error(code, mentions, [&] { read_folder(folder); });
}

void expect_key_refused(const std::string& key, const std::string& value) {
  INFO(key);
  expect_refused(ErrorCode::unsupported_model, "adapter_config.json: " + key,
                 [&](PeftFolder& folder) { folder.config[key] = value; });
}

}  // namespace

TEST_CASE("a PEFT adapter: rows of q as the model's GGUF has them, the others as they are") {
  const AdapterFile file = read_folder({});
  CHECK(file.info.format == "peft");
  REQUIRE(file.matrices.size() == 2);
  const AdapterMatrix &q = file.matrices[0], &down = file.matrices[1];
  CHECK(q.layer == 1);
  CHECK(q.projection == Projection::query);
  CHECK(q.scale == 4.0f);
  CHECK(down.projection == Projection::down);
  for (std::size_t i = 0; i < q.a.size(); i++) CHECK(q.a[i] == static_cast<float>(i));
  for (std::size_t i = 0; i < down.b.size(); i++) CHECK(down.b[i] == static_cast<float>(i));
  // Heads of 8 rows: Hugging Face's rows 0, 4, 1, 5, ... of each.
  const std::size_t order[] = {0, 4, 1, 5, 2, 6, 3, 7};
  for (std::size_t row = 0; row < 32; row++)
    for (std::size_t k = 0; k < 2; k++)
      CHECK(q.b[row * 2 + k] == static_cast<float>((row / 8 * 8 + order[row % 8]) * 2 + k));
}

TEST_CASE("a PEFT adapter of a model that keeps Hugging Face's order of rows") {
  ModelConfig config = tiny_config();
  config.rope_layout = RopeLayout::half;
  const AdapterMatrix q = read_folder({}, config).matrices[0];
  for (std::size_t i = 0; i < q.b.size(); i++) CHECK(q.b[i] == static_cast<float>(i));
}

TEST_CASE("scales of PEFT adapters: rank-stabilised ones, and patterns") {
  CHECK(scale_with({{"lora_alpha", "3.5"}}) == 1.75f);
  CHECK(scale_with({{"use_rslora", "true"}}) == doctest::Approx(8 / std::sqrt(2.0)));
  CHECK(scale_with({{"alpha_pattern", R"({"q_proj": 2})"}}) == 1.0f);
  CHECK(scale_with({{"alpha_pattern", R"({"down_proj": 2, "k_proj": 6})"}}) == 4.0f);
  // The end of the module's name, from a dot on; the first key wins; '.' is any character.
  CHECK(scale_with({{"alpha_pattern", R"({"proj": 2, "layers.1.self_attn.q_proj": 6, "q_proj": 10})"}}) ==
        3.0f);
  CHECK(scale_with({{"alpha_pattern",
                     R"({"layers.0.self_attn.q_proj": 2, "layers\\.1\\.self_attn.q_proj": 6})"}}) == 3.0f);
  CHECK(scale_with({{"alpha_pattern", R"({"^layers.1.self_attn.q_proj": 2})"}}) == 4.0f);
  CHECK(scale_with({{"alpha_pattern", R"({"^model.layers.1.self_attn.q_proj": 2})"}}) == 1.0f);
  CHECK(scale_with({{"alpha_pattern", R"({"q.proj": 2})"}}) == 1.0f);
  CHECK(scale_with({{"alpha_pattern", R"({"q\\.proj": 2})"}}) == 4.0f);

  // Regular expressions, one of which would keep a backtracking matcher busy for ages.
  CHECK(scale_with({{"alpha_pattern", R"({"layers\\.[12]\\.(self_attn|mlp)\\..*_proj": 2})"}}) == 1.0f);
  CHECK(scale_with({{"alpha_pattern", R"({"layers\\.[02]\\..*_proj": 2, "(k|q)_proj": 6})"}}) == 3.0f);
  CHECK(scale_with({{"alpha_pattern", R"({"^model\\.layers\\.\\d+\\.self_attn.q_proj$": 2})"}}) == 1.0f);
  CHECK(scale_with({{"alpha_pattern", R"({"((.*)*)*!": 2})"}}) == 4.0f);

  PeftFolder folder;
  folder.add("self_attn.v_proj", 16, 32, 5);
  folder.config["rank_pattern"] = R"({"v_proj": 5})";
  folder.config["alpha_pattern"] = R"({"v_proj": 20})";
  const AdapterFile file = read_folder(folder);
  CHECK(file.info.rank == 5);
  CHECK(file.matrices[0].scale == 4.0f);
  CHECK(file.matrices[1].scale == 4.0f);
  CHECK(file.matrices[1].rank == 5);
}

TEST_CASE("a PEFT configuration that asks for something else is refused by name") {
  expect_key_refused("peft_type", R"("IA3")");
  expect_key_refused("use_dora", "true");
  expect_key_refused("bias", R"("all")");
  expect_key_refused("bias", R"("lora_only")");
  expect_key_refused("lora_bias", "true");
  expect_key_refused("init_lora_weights", R"("pissa_niter_4")");
  expect_key_refused("init_lora_weights", R"("olora")");
  expect_key_refused("use_qalora", "true");
  expect_key_refused("layer_replication", "[[0, 1]]");
  expect_key_refused("alora_invocation_tokens", "[1]");
  expect_key_refused("trainable_token_indices", "[5]");
  expect_key_refused("target_parameters", R"(["x"])");
  expect_key_refused("arrow_config", R"({"k": 1})");
  expect_key_refused("some_future_key", "true");
  expect_key_refused("rank_pattern", R"({"(q_proj": 2})");
  expect_key_refused("alpha_pattern", R"x({"(?P<x>q_proj)": 2})x");
  expect_key_refused("alpha_pattern", R"({"q[)" + std::string(300, 'a') + R"(]": 2})");
  expect_key_refused("alpha_pattern", R"x({"((((a{999}){999}){999}){999})": 2})x");
  // Harmless.
  CHECK(scale_with({{"init_lora_weights", R"("gaussian")"},
                    {"some_future_key", "null"},
                    {"another", "false"},
                    {"loftq_config", "{}"},
                    {"fan_in_fan_out", "true"},
                    {"lora_dropout", "0.1"}}) == 4.0f);
}

TEST_CASE("a PEFT configuration that is damaged") {
  for (const char* key : {"peft_type", "r", "lora_alpha"})
    expect_refused(ErrorCode::invalid_file, key, [&](PeftFolder& folder) { folder.config.erase(key); });
  expect_refused(ErrorCode::invalid_file, "r: ", [](PeftFolder& folder) { folder.config["r"] = "-2"; });
  expect_refused(ErrorCode::invalid_file, "r: ", [](PeftFolder& folder) { folder.config["r"] = "\"2\""; });
  expect_refused(ErrorCode::invalid_file, "adapter_config.json",
                 [](PeftFolder& folder) { folder.config["r"] = "2,"; });
  expect_refused(ErrorCode::invalid_file, "alpha_pattern",
                 [](PeftFolder& folder) { folder.config["alpha_pattern"] = R"({"q_proj": "x"})"; });
  expect_refused(ErrorCode::invalid_model, "the rank of \"model.layers.1.self_attn.q_proj\": expected 3",
                 [](PeftFolder& folder) { folder.config["r"] = "3"; });
  expect_refused(ErrorCode::invalid_model, "finite scale",
                 [](PeftFolder& folder) { folder.config["lora_alpha"] = "1e300"; });
}

TEST_CASE("tensors of a PEFT adapter that are not LoRA's, or of another model, are refused by name") {
  const auto refused = [](ErrorCode code, const std::string& name, const std::string& mentions) {
    expect_refused(code, mentions,
                   [&](PeftFolder& folder) { folder.tensors[name] = PeftFolder::counted({2, 32}); });
  };
  const std::string layer = "base_model.model.model.layers.1.";
  constexpr ErrorCode kUnsupported = ErrorCode::unsupported_model, kInvalid = ErrorCode::invalid_model;
  refused(kUnsupported, layer + "self_attn.q_proj.lora_magnitude_vector", "DoRA");
  refused(kUnsupported, layer + "self_attn.q_proj.lora_B.bias", "biases");
  refused(kUnsupported, layer + "self_attn.q_proj.bias", "biases");
  refused(kUnsupported, "base_model.model.model.embed_tokens.lora_embedding_A",
          "the embedding and of the output");
  refused(kUnsupported, "base_model.model.lm_head.lora_A.weight", "the embedding and of the output");
  refused(kUnsupported, "base_model.model.lm_head.weight", "the embedding and of the output");
  refused(kUnsupported, layer + "input_layernorm.weight", "modules_to_save");
  refused(kUnsupported, layer + "block_sparse_moe.experts.0.w1.lora_A.weight", "experts");
  refused(kUnsupported, layer + "self_attn.qkv_proj.lora_A.weight", "only lora_A and lora_B");
  refused(kUnsupported, "x", "modules_to_save");
  refused(kInvalid, "base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight", "layer 2");
  refused(kInvalid, layer + "self_attn.k_proj.lora_A.weight", "its counterpart");

  expect_refused(kInvalid, "expected shape [rank, 32] (the model's matrix is [32, 32]), found [2, 40]",
                 [](PeftFolder& folder) {
                   folder.tensors[PeftFolder::name("self_attn.q_proj", "A")] = PeftFolder::counted({2, 40});
                 });
  expect_refused(kInvalid, "expected shape [32, 2]", [](PeftFolder& folder) {
    folder.tensors[PeftFolder::name("self_attn.q_proj", "B")] = PeftFolder::counted({64, 2});
  });
  expect_refused(kInvalid, "a matrix, found 1 dimensions", [](PeftFolder& folder) {
    folder.tensors[PeftFolder::name("self_attn.q_proj", "A")] = PeftFolder::counted({64});
  });
  expect_refused(kUnsupported, "an adapter in I32 is not supported", [](PeftFolder& folder) {
    folder.tensors[PeftFolder::name("self_attn.q_proj", "A")].type = "I32";
  });
  expect_refused(kInvalid, "at least one projection", [](PeftFolder& folder) { folder.tensors.clear(); });
}

TEST_CASE("a PEFT folder without its files, or with damaged ones") {
  const TempDir dir;
  const auto read = [&] { read_adapter(dir.path, tiny_config(), kNever); };
  expect_error(ErrorCode::file_not_found, "adapter_config.json", read);
  PeftFolder().write(dir.path);
  std::filesystem::remove(dir.path / "adapter_model.safetensors");
  expect_error(ErrorCode::file_not_found, "adapter_model.safetensors", read);
  for (const std::vector<std::uint8_t>& bytes :
       {std::vector<std::uint8_t>{}, std::vector<std::uint8_t>{1, 2, 3},
        std::vector<std::uint8_t>(8, 0xff)}) {
    write_file(dir.path / "adapter_model.safetensors", bytes);
    CHECK_THROWS_AS(read(), Error);
  }
}
