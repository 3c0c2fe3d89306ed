// libFuzzer target: any bytes read as a safetensors file, alone and as a Hugging Face folder's weights and
// configuration, give a cria::Error or tensors within their file. A crash, a leak, a sanitizer report, or an
// input that takes much time or memory is a failure.
//
// The first byte says what follows: 's' a safetensors file; 'h' config.json, a line feed, and the weights.
// gguf_fuzz.cc says how to build and run it.

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "../native/io/folder_builder.h"
#include "io/hf_folder.h"
#include "io/safetensors.h"

namespace {

using namespace cria;
using namespace cria::test;

constexpr std::string_view kConfig =
    R"({"model_type":"llama","hidden_size":4,"intermediate_size":2,"num_hidden_layers":1,)"
    R"("num_attention_heads":2,"vocab_size":3)";

std::string weights(const std::string& dtype, std::size_t element_bytes, bool scaled) {
  std::vector<TensorToStore> list;
  const auto add = [&](const std::string& name, std::vector<std::uint64_t> shape) {
    std::size_t elements = 1;
    for (const std::uint64_t dim : shape) elements *= dim;
    const bool plain = shape.size() == 1 || name.find("layers") == std::string::npos;
    list.push_back(
        {name, plain ? "F32" : dtype, shape, std::string(elements * (plain ? 4 : element_bytes), '?')});
    if (!plain && scaled) list.push_back({name + "_scale", "F32", {1}, std::string(4, '?')});
  };
  add("model.embed_tokens.weight", {3, 4});
  for (const char* name : {"q", "k", "v", "o"})
    add(std::string("model.layers.0.self_attn.") + name + "_proj.weight", {4, 4});
  for (const char* name : {"gate", "up"})
    add(std::string("model.layers.0.mlp.") + name + "_proj.weight", {2, 4});
  add("model.layers.0.mlp.down_proj.weight", {4, 2});
  for (const char* name : {"layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm"})
    add(std::string("model.") + name + ".weight", {4});
  add("lm_head.weight", {3, 4});
  return safetensors_file(list);
}

void write_seeds(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  const auto write = [&](const char* name, const std::string& bytes) {
    std::ofstream(folder / name, std::ios::binary) << bytes;
  };
  const std::string config(kConfig);
  write("safetensors", "s" + weights("BF16", 2, false));
  write("plain", "h" + config + "}\n" + weights("F32", 4, false));
  write("fp8", "h" + config + R"(,"quantization_config":{"quant_method":"fp8"}})" + "\n" +
                   weights("F8_E4M3", 1, true));
  write("llama3", "h" + config +
                      R"(,"rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":1,)"
                      R"("high_freq_factor":4,"original_max_position_embeddings":16}})" +
                      "\n" + weights("F16", 2, false));
  write("longrope", "h" + config +
                        R"(,"rope_parameters":{"rope_type":"longrope","factor":8,"long_factor":[1],)"
                        R"("short_factor":[1],"original_max_position_embeddings":16}})" +
                        "\n" + weights("F16", 2, false));
}

void read_folder(const std::string& input) {
  const std::size_t end = input.find('\n');
  MemoryFolder folder;
  folder.files["m/config.json"] = input.substr(0, end);
  if (end != std::string::npos) folder.files["m/model.safetensors"] = input.substr(end + 1);
  const auto source = open_hf_folder("m", folder.opener());
  std::vector<std::uint8_t> bytes;
  for (const GgufTensor& tensor : source->tensors()) {
    bytes.resize(tensor.bytes);
    source->read(tensor, 0, bytes.data(), bytes.size());
    source->read(tensor, tensor.bytes / 2, bytes.data(), tensor.bytes - tensor.bytes / 2);
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr const char* kOption = "-write_seeds=";
  for (int i = 1; i < *argc; ++i) {
    if (std::strncmp((*argv)[i], kOption, std::strlen(kOption)) != 0) continue;
    write_seeds((*argv)[i] + std::strlen(kOption));
    std::exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string input(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    if (data[0] == 'h') {
      read_folder(input);
    } else {
      const auto file = File::from_memory("memory.safetensors", {input.begin(), input.end()});
      for (const StoredTensor& tensor : read_safetensors(*file, 0))
        if (tensor.offset + tensor.bytes > input.size()) __builtin_trap();
    }
  } catch (const Error&) {
    // Expected; any other exception ends the program and is a finding.
  }
  return 0;
}
