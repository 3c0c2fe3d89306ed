// libFuzzer target: any bytes read as a GGUF model give a cria::Error or a checked ModelConfig. A crash, a
// leak, a sanitizer report, or an input that takes much time or memory is a failure.
//
//   cmake -S . -B build-fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++-19 -DCRIA_ADDON=OFF -DCRIA_FUZZ=ON \
//         -DCRIA_SANITIZE=address,undefined
//   ninja -C build-fuzz fuzz_gguf
//   build-fuzz/test/native/fuzz_gguf -write_seeds=build-fuzz/corpus      # a few small valid files
//   build-fuzz/test/native/fuzz_gguf -max_total_time=180 -timeout=2 -rss_limit_mb=256 -malloc_limit_mb=64 \
//         -max_len=65536 build-fuzz/corpus
//
// `-write_seeds=<folder>` is an option of this program; all others are libFuzzer's.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "../native/io/gguf_builder.h"
#include "core/error.h"
#include "io/gguf.h"
#include "model/config.h"

namespace {

using namespace cria;
using namespace cria::test;

void write_seed(const std::filesystem::path& path, const GgufBuilder& builder) {
  const std::vector<std::uint8_t> bytes = builder.build();
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

/// Seeds that reach every important branch: whole models of several shapes, every metadata type, a part of a
/// split.
void write_seeds(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  const LlamaShape small = {
      .vocab = 4, .hidden = 4, .layers = 1, .heads = 2, .kv_heads = 1, .head_dim = 2, .ffn = 2};
  write_seed(folder / "llama", tiny_llama(small));
  write_seed(
      folder / "llama-two-layers",
      tiny_llama(
          {.vocab = 2, .hidden = 2, .heads = 1, .kv_heads = 1, .head_dim = 2, .ffn = 1, .tied = true}));
  GgufBuilder scaled = tiny_llama(small);
  scaled.set("llama.rope.scaling.type", "llama3").set("llama.rope.scaling.factor", 8.0f);
  scaled.set("llama.rope.scaling.low_freq_factor", 1.0f).set("llama.rope.scaling.high_freq_factor", 4.0f);
  scaled.set("llama.rope.scaling.original_context_length", 8192u).set("general.alignment", 32u);
  write_seed(folder / "llama3-scaling", scaled);
  GgufBuilder factors = tiny_llama(small);
  factors.tensor({"rope_freqs.weight", {1}, 0, float_bytes({2.0f})});
  factors.set("llama.rope.scaling.type", "linear").set("llama.rope.scaling.factor", 2.0f);
  factors.set("tokenizer.ggml.model", "llama")
      .set_strings("tokenizer.ggml.tokens", {"<unk>", "a", "b", "ab"});
  factors.set_numbers<float>("tokenizer.ggml.scores", GgufType::f32, {0, -1, -2, -3});
  factors.set_numbers<std::int32_t>("tokenizer.ggml.token_type", GgufType::i32, {2, 1, 1, 1});
  write_seed(folder / "rope-factors-and-vocabulary", factors);

  GgufBuilder types;
  types.set("u8", GgufType::u8, std::uint8_t{1}).set("i16", GgufType::i16, std::int16_t{-1});
  types.set("u64", GgufType::u64, std::uint64_t{1}).set("f64", GgufType::f64, 1.0).set("yes", true);
  types.set_numbers<std::uint8_t>("bools", GgufType::boolean, {0, 1});
  types.set_numbers<std::int64_t>("i64s", GgufType::i64, {-1});
  types.tensor({"a", {32, 1}, 2}).tensor({"b", {256}, 12}).tensor({"c", {1, 1, 1, 1}, 30});
  write_seed(folder / "types", types);
  types.version = 2;
  types.set("split.no", GgufType::u16, std::uint16_t{0}).set("split.count", GgufType::u16, std::uint16_t{2});
  types.set("split.tensors.count", GgufType::i32, std::int32_t{3});
  write_seed(folder / "split", types);
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
  const std::vector<std::uint8_t> bytes(data, data + size);
  // The name is that of the first of two parts; the other part has the same bytes.
  const FileOpener open_any = [&](const std::string& path) { return File::from_memory(path, bytes); };
  try {
    const GgufFile file = GgufFile::open(open_any("model-00001-of-00002.gguf"), open_any);
    for (const auto& [key, value] : file.metadata()) {
      if (file.find(key) != &value) __builtin_trap();
      const auto* array = std::get_if<GgufArray>(&value);
      if (array == nullptr) continue;
      for (std::size_t i = 0; i < array->size(); ++i) {
        if (array->holds_strings()) {
          (void)array->string_at(i);
        } else {
          (void)array->number_at(i);
        }
      }
    }
    std::vector<std::uint8_t> weights;
    // As a loader does: every tensor must be within its file.
    for (const GgufTensor& tensor : file.tensors()) {
      weights.resize(tensor.bytes);
      file.files().at(tensor.file_index)->read_at(tensor.offset, weights.data(), weights.size());
    }
    const ModelConfig config = read_config(file);
    if (config.n_heads % config.n_kv_heads != 0 || config.rope_inv_freq.size() * 2 != config.rope_dim)
      __builtin_trap();
    for (const float frequency : config.rope_inv_freq)
      if (!(frequency >= 0 && frequency <= 1e4f)) __builtin_trap();
  } catch (const Error&) {
    // Expected; any other exception ends the program and is a finding.
  }
  return 0;
}
