// The fingerprint of a model changes if and only if its keys and values may change.
#include "model/fingerprint.h"

#include <utility>

#include "expect_error.h"
#include "gguf_builder.h"

using namespace cria;
using namespace cria::test;

namespace {

std::uint64_t fingerprint_of(const GgufFile& file) { return model_fingerprint(file, read_config(file)); }
std::uint64_t fingerprint_of(const GgufBuilder& builder) {
  return fingerprint_of(open_bytes(builder.build()));
}

/// Weights that differ from tensor to tensor.
GgufBuilder filled_llama(const LlamaShape& shape = {}) {
  GgufBuilder builder = tiny_llama(shape);
  std::uint8_t seed = 0;
  for (TensorSpec& spec : builder.tensors) {
    std::uint64_t bytes = sizeof(float);
    for (const std::uint64_t dim : spec.dims) bytes *= dim;
    spec.data.assign(bytes, ++seed);
  }
  return builder;
}

}  // namespace

TEST_CASE("the fingerprint belongs to the model, not to the file") {
  const GgufBuilder model = filled_llama();
  const std::uint64_t fingerprint = fingerprint_of(model);
  CHECK(fingerprint_of(model) == fingerprint);

  GgufBuilder same = model;
  SUBCASE("another file name") {
    CHECK(fingerprint_of(open_bytes(model.build(), "other.gguf")) == fingerprint);
  }
  SUBCASE("another model name") { same.set("general.name", "other"); }
  SUBCASE("another alignment") {
    same.alignment = 64;
    same.set("general.alignment", 64u);
  }
  SUBCASE("metadata that the model does not use") { same.set("general.author", "somebody"); }
  SUBCASE("a default made explicit") { same.set("llama.rope.freq_base", 10000.0f); }
  SUBCASE("another context length") { same.set("llama.context_length", 128u); }
  CHECK(fingerprint_of(same) == fingerprint);
}

TEST_CASE("changes that make a different model") {
  const GgufBuilder model = filled_llama();
  GgufBuilder other = model;
  SUBCASE("one bit of any weight") {
    for (std::size_t i = 0; i < model.tensors.size(); ++i) {
      CAPTURE(model.tensors[i].name);
      GgufBuilder changed = model;
      std::vector<std::uint8_t>& data = changed.tensors[i].data;
      data[data.size() / 3] ^= 1;
      CHECK(fingerprint_of(changed) != fingerprint_of(model));
    }
    return;
  }
  SUBCASE("rope base") { other.set("llama.rope.freq_base", 500000.0f); }
  SUBCASE("rope scaling") {
    other.set("llama.rope.scaling.type", "linear").set("llama.rope.scaling.factor", 2.0f);
  }
  SUBCASE("epsilon") { other.set("llama.attention.layer_norm_rms_epsilon", 1e-6f); }
  SUBCASE("the number of heads, with equal shapes") {
    other = filled_llama({.heads = 8, .kv_heads = 4, .head_dim = 4});
    CHECK(other.tensors[2].dims == model.tensors[2].dims);
  }
  SUBCASE("two tensors with exchanged names") {
    std::swap(other.tensor_named("blk.0.attn_k.weight").name, other.tensors[4].name);
    REQUIRE(other.tensors[4].name == "blk.0.attn_k.weight");
  }
  SUBCASE("two tensors with exchanged places") { std::swap(other.tensors[3], other.tensors[4]); }
  SUBCASE("a type") {
    TensorSpec& spec = other.tensor_named("blk.0.attn_q.weight");
    spec.type = 8;
    spec.data.assign(32 * 34, 3);
  }
  SUBCASE("an additional tensor") { other.tensor({"something.else", {4}}); }
  SUBCASE("tied output") { other.remove_tensor("output.weight"); }
  CHECK(fingerprint_of(other) != fingerprint_of(model));
}

TEST_CASE("large tensors are sampled at their beginning, middle and end") {
  // 1024 rows of 32 floats: 128 KiB of embedding.
  GgufBuilder model = filled_llama({.vocab = 1024});
  const std::uint64_t fingerprint = fingerprint_of(model);
  const auto with_change_at = [&](std::size_t at) {
    GgufBuilder changed = model;
    changed.tensor_named("token_embd.weight").data[at] ^= 1;
    return fingerprint_of(changed);
  };
  const std::size_t bytes = model.tensors[0].data.size();
  for (const std::size_t at : {std::size_t{0}, std::size_t{4095}, bytes / 2, bytes - 4096, bytes - 1})
    CHECK(with_change_at(at) != fingerprint);
  CHECK(with_change_at(20'000) == fingerprint);  // between the samples, as the header documents
}

TEST_CASE("a file that can no longer be read") {
  struct Fading final : File {
    const std::string& path() const override { return file->path(); }
    std::uint64_t size() const override { return file->size(); }
    void read_at(std::uint64_t offset, void* dst, std::size_t bytes) const override {
      if (gone) throw Error(ErrorCode::io, "the file ended");
      file->read_at(offset, dst, bytes);
    }
    std::shared_ptr<const File> file = filled_llama().file();
    bool gone = false;
  };
  const auto file = std::make_shared<Fading>();
  const GgufFile gguf = GgufFile::open(file, File::open);
  const ModelConfig config = read_config(gguf);
  file->gone = true;
  expect_error(ErrorCode::io, "the file ended", [&] { (void)model_fingerprint(gguf, config); });
}

TEST_CASE("the demo model") {
  const GgufFile file = GgufFile::open(std::string(CRIA_MODELS) + "/demo.gguf");
  CHECK(fingerprint_of(file) == fingerprint_of(GgufFile::open(std::string(CRIA_MODELS) + "/demo.gguf")));
}
