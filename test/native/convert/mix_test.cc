// The types that each file type gives the tensors of real shapes, against llama.cpp's.
#include "convert/mix.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "../io/expect_error.h"
#include "core/json.h"

using namespace cria;
using namespace cria::test;

namespace {

struct Shape {
  std::uint64_t layers, hidden, ffn, heads, kv_heads, experts;
  bool tied;
};
const std::map<std::string, Shape> kShapes = {
    {"llama-3.2-1b", {16, 2048, 8192, 32, 8, 0, true}},
    {"llama-3.1-8b", {32, 4096, 14336, 32, 8, 0, false}},
    {"llama-2-7b", {32, 4096, 11008, 32, 32, 0, false}},
    {"llama-3.1-70b", {80, 8192, 28672, 64, 8, 0, false}},
    {"mixtral-8x7b", {32, 4096, 14336, 32, 8, 8, false}},
    {"smollm2-135m", {30, 576, 1536, 9, 3, 0, true}},
};

/// A model of a shape, without data. `reversed`: the file lists its tensors backwards.
class ShapeSource final : public ModelSource {
 public:
  explicit ShapeSource(const Shape& s, bool reversed = false) {
    path_ = "shape";
    metadata_ = {{"general.architecture", std::string("llama")},
                 {"llama.block_count", s.layers},
                 {"llama.attention.head_count", s.heads},
                 {"llama.attention.head_count_kv", s.kv_heads},
                 {"llama.expert_count", s.experts}};
    metadata_types_ = {GgufType::string, GgufType::u32, GgufType::u32, GgufType::u32, GgufType::u32};
    add("token_embd.weight", {s.hidden, 32000});
    for (std::uint64_t i = 0; i < s.layers; i++) {
      const std::string prefix = "blk." + std::to_string(i) + ".";
      const std::uint64_t kv = s.hidden / s.heads * s.kv_heads;
      add(prefix + "attn_norm.weight", {s.hidden});
      add(prefix + "attn_q.weight", {s.hidden, s.hidden});
      add(prefix + "attn_k.weight", {s.hidden, kv});
      add(prefix + "attn_v.weight", {s.hidden, kv});
      add(prefix + "attn_output.weight", {s.hidden, s.hidden});
      if (s.experts == 0) {
        add(prefix + "ffn_gate.weight", {s.hidden, s.ffn});
        add(prefix + "ffn_up.weight", {s.hidden, s.ffn});
        add(prefix + "ffn_down.weight", {s.ffn, s.hidden});
      } else {
        add(prefix + "ffn_gate_inp.weight", {s.hidden, s.experts});
        add(prefix + "ffn_gate_exps.weight", {s.hidden, s.ffn, s.experts});
        add(prefix + "ffn_up_exps.weight", {s.hidden, s.ffn, s.experts});
        add(prefix + "ffn_down_exps.weight", {s.ffn, s.hidden, s.experts});
      }
    }
    if (!s.tied) add("output.weight", {s.hidden, 32000});
    if (reversed) std::reverse(tensors_.begin(), tensors_.end());
    build_indices();
  }
  std::string_view format() const noexcept override { return "shape"; }
  void read(const GgufTensor&, std::uint64_t, void*, std::size_t) const override {}
  bool is_mappable() const noexcept override { return false; }

 private:
  void add(const std::string& name, std::vector<std::uint64_t> dims) {
    GgufTensor tensor{.name = name,
                      .dtype = DType::f32,
                      .n_dims = static_cast<std::uint32_t>(dims.size()),
                      .dims = {1, 1, 1, 1},
                      .file_index = 0,
                      .offset = 0,
                      .bytes = 0};
    std::copy(dims.begin(), dims.end(), tensor.dims);
    tensors_.push_back(std::move(tensor));
  }
};

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return out;
}

/// The type that a file's entry states for a tensor: one for all layers, or one a layer; F32 where it states
/// none.
std::string expected_type(const JsonValue& tensors, const std::string& tensor) {
  std::string name = tensor.substr(0, tensor.size() - std::string(".weight").size());
  std::size_t layer = 0;
  if (name.starts_with("blk.")) {
    layer = std::stoul(name.substr(4));
    name = name.substr(name.find('.', 4) + 1);
  }
  const std::optional<JsonValue> stated = tensors.find(name);
  if (!stated) return "F32";
  if (stated->is(JsonType::string)) return upper(stated->as_string());
  std::size_t i = 0;
  for (const JsonValue type : stated->elements())
    if (i++ == layer) return upper(type.as_string());
  return "no such layer";
}

}  // namespace

TEST_CASE("every mix equals llama.cpp's, tensor by tensor" *
          doctest::skip(!std::filesystem::exists(CRIA_SHARED_DATA "/quantized/mixes.json"))) {
  std::ifstream file(CRIA_SHARED_DATA "/quantized/mixes.json");
  const JsonDocument document = JsonDocument::parse({std::istreambuf_iterator<char>(file), {}}, "mixes.json");
  int shapes = 0, types = 0, tensors = 0, refused = 0;
  for (const JsonMember shape : document.root().get("shapes").members()) {
    CAPTURE(std::string(shape.key));
    shapes++;
    const bool reversed = shapes % 2 == 0;
    const ShapeSource source(kShapes.at(std::string(shape.key)), reversed);
    for (const JsonMember mix : shape.value.members()) {
      CAPTURE(std::string(mix.key));
      types++;
      const FileType type = parse_file_type(mix.key);
      if (mix.value.size() == 0) {  // llama.cpp refuses it
        refused++;
        expect_error(ErrorCode::invalid_argument, "columns", [&] { mix_types(source, type, false); });
        continue;
      }
      const std::vector<DType> found = mix_types(source, type, false);
      for (std::size_t i = 0; i < found.size(); i++) {
        CAPTURE(source.tensors()[i].name);
        CHECK(name_of(found[i]) == expected_type(mix.value, source.tensors()[i].name));
        tensors++;
      }
    }
  }
  CHECK(shapes == 6);
  CHECK(types == 6 * 34);
  CHECK(refused == 1);
  CHECK(tensors > 30000);
}

TEST_CASE("with an importance matrix, other tensors get more bits") {
  const ShapeSource source(kShapes.at("llama-2-7b"));
  const auto type_of = [&](FileType type, const std::string& name, bool has_importance) {
    const std::vector<DType> types = mix_types(source, type, has_importance);
    for (std::size_t i = 0; i < types.size(); i++)
      if (source.tensors()[i].name == name) return types[i];
    return DType::f32;
  };
  CHECK(type_of(FileType::q4_0, "blk.3.ffn_down.weight", false) == DType::q4_0);
  CHECK(type_of(FileType::q4_0, "blk.3.ffn_down.weight", true) == DType::q4_1);
  CHECK(type_of(FileType::q4_0, "blk.4.ffn_down.weight", true) == DType::q4_0);
  CHECK(type_of(FileType::iq4_xs, "blk.0.ffn_down.weight", false) == DType::q5_k);
  CHECK(type_of(FileType::iq4_xs, "blk.0.ffn_down.weight", true) == DType::iq4_xs);
}

TEST_CASE("names of file types") {
  CHECK(parse_file_type("Q4_K_M") == FileType::q4_k_m);
  CHECK(parse_file_type("q4_k") == FileType::q4_k_m);
  CHECK(parse_file_type("bf16") == FileType::bf16);
  expect_error(ErrorCode::invalid_argument, "Q4_K_M", [] { parse_file_type("Q4_K_X"); });
  expect_error(ErrorCode::invalid_argument, "found ''", [] { parse_file_type(""); });
}
