// Real models, if the reference data is present.
#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "expect_error.h"
#include "io/gguf.h"
#include "model/config.h"

using namespace cria;
namespace fs = std::filesystem;

TEST_CASE("configurations of the reference models" * doctest::skip(!fs::exists(CRIA_SHARED_DATA))) {
  const fs::path data = CRIA_SHARED_DATA;
  const ModelConfig stories =
      read_config(GgufFile::open(data / "tinystories-260k" / "gguf" / "tinystories-260k-f32.gguf"));
  CHECK(stories.n_layers == 5);
  CHECK(stories.hidden == 64);
  CHECK(stories.n_heads == 8);
  CHECK(stories.n_kv_heads == 4);
  CHECK(stories.head_dim == 8);
  CHECK(stories.vocab_size == 512);
  CHECK(stories.context_length == 512);

  std::size_t quantized = 0;
  for (const auto& entry : fs::directory_iterator(data / "quantized")) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("tiny-") || !name.ends_with(".gguf") || name == "tiny-imatrix.gguf") continue;
    CAPTURE(name);
    const ModelConfig config = read_config(GgufFile::open(entry.path()));
    CHECK(config.n_layers == 2);
    CHECK(config.hidden == 256);
    CHECK(config.n_heads == 8);
    CHECK(config.n_kv_heads == 2);
    ++quantized;
  }
  CHECK(quantized >= 34);

  for (const char* name : {"llama2-vocab.gguf", "llama3-vocab.gguf"}) {
    const GgufFile file = GgufFile::open(data / "tokenizer" / name);
    test::expect_error(ErrorCode::invalid_model, "vocabulary without tensors",
                       [&] { (void)read_config(file); });
  }
}
