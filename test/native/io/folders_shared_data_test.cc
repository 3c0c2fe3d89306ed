// One trained model in four forms: the folders must give the GGUF's tensors bit for bit, and its
// configuration.
#include <filesystem>

#include "expect_error.h"
#include "io/model_source.h"
#include "model/config.h"
#include "model/fingerprint.h"

using namespace cria;
using namespace cria::test;

namespace {

const std::filesystem::path kStories = std::filesystem::path(CRIA_SHARED_DATA) / "tinystories-260k";

std::vector<std::uint8_t> bytes_of(const ModelSource& source, const GgufTensor& tensor) {
  std::vector<std::uint8_t> bytes(tensor.bytes);
  source.read(tensor, 0, bytes.data(), bytes.size());
  return bytes;
}

}  // namespace

TEST_CASE("the four forms of a model hold the same tensors" *
          doctest::skip(!std::filesystem::exists(kStories))) {
  const auto gguf = ModelSource::open((kStories / "gguf" / "tinystories-260k-f32.gguf").string());
  const ModelConfig expected = read_config(*gguf);
  for (const std::string form : {"hf", "meta", "meta-2shards"}) {
    CAPTURE(form);
    const auto source = ModelSource::open((kStories / form).string());
    const ModelConfig config = read_config(*source);
    CHECK(config.hidden == expected.hidden);
    CHECK(config.n_heads == expected.n_heads);
    CHECK(config.n_kv_heads == expected.n_kv_heads);
    CHECK(config.ffn_hidden == expected.ffn_hidden);
    CHECK(config.vocab_size == expected.vocab_size);
    CHECK(config.rms_norm_eps == expected.rms_norm_eps);
    CHECK(config.rope_inv_freq == expected.rope_inv_freq);
    for (const GgufTensor& tensor : gguf->tensors()) {
      CAPTURE(tensor.name);
      const GgufTensor* own = source->find_tensor(tensor.name);
      if (own == nullptr) {  // the GGUF may repeat a tied embedding, and hold what others compute
        CHECK((tensor.name == "output.weight" || tensor.name == "rope_freqs.weight"));
        continue;
      }
      CHECK(own->dtype == tensor.dtype);
      CHECK(bytes_of(*source, *own) == bytes_of(*gguf, tensor));
    }
  }
}

TEST_CASE("a folder may be given by a file in it" * doctest::skip(!std::filesystem::exists(kStories))) {
  for (const std::string path :
       {"hf/", "hf/config.json", "hf/model-00001-of-00002.safetensors", "hf/model.safetensors.index.json"}) {
    CAPTURE(path);
    const auto source = ModelSource::open((kStories / path).string());
    CHECK(source->format() == "huggingface");
    CHECK(source->path() == (kStories / "hf").string());
    CHECK(source->files().size() == 2);
  }
  for (const std::string path : {"meta/params.json", "meta-2shards/consolidated.01.pth"})
    CHECK(ModelSource::open((kStories / path).string())->format() == "meta");
  expect_error(ErrorCode::file_not_found, "config.json", [] { (void)ModelSource::open(kStories.string()); });
}

TEST_CASE("fingerprints tell folders apart by their content" *
          doctest::skip(!std::filesystem::exists(kStories))) {
  const auto print = [](const std::filesystem::path& path) {
    const auto source = ModelSource::open(path.string());
    return model_fingerprint(*source, read_config(*source));
  };
  CHECK(print(kStories / "meta") == print(kStories / "meta-2shards"));
  const std::filesystem::path hf = kStories.parent_path() / "hf";
  CHECK(print(hf / "f32") == print(hf / "f32-old-config"));
  CHECK(print(hf / "f32") != print(hf / "head-dim"));
  CHECK(print(hf / "f32") != print(hf / "f16"));
}
