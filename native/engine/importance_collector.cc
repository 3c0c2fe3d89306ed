// ImportanceCollector: watches the decoder and adds up squared activations.
#include <cmath>
#include <utility>

#include "core/error.h"
#include "engine/evaluation.h"

namespace cria {
namespace {

std::string layer_prefix(std::size_t layer) { return "blk." + std::to_string(layer) + "."; }

/// The weights that take each point's activations.
std::vector<std::string> weights_at(ActivationPoint point) {
  switch (point) {
    case ActivationPoint::attention_input: return {"attn_q", "attn_k", "attn_v", "attn_qkv"};
    case ActivationPoint::attention_output: return {"attn_output"};
    case ActivationPoint::ffn_input: return {"ffn_gate", "ffn_up"};
    case ActivationPoint::ffn_hidden: return {"ffn_down"};
  }
  return {};
}
constexpr ActivationPoint kPoints[] = {ActivationPoint::attention_input, ActivationPoint::attention_output,
                                       ActivationPoint::ffn_input, ActivationPoint::ffn_hidden};

/// The layer's norm before a point's products, or "".
std::string_view norm_before(ActivationPoint point) {
  if (point == ActivationPoint::attention_input) return "attn_norm";
  return point == ActivationPoint::ffn_input ? "ffn_norm" : "";
}

std::vector<float> read_norm(const ModelSource& source, const std::string& name) {
  const GgufTensor* tensor = source.find_tensor(name);
  if (tensor == nullptr || tensor->dtype != DType::f32)
    throw Error(ErrorCode::unsupported_model, source.path() + ": expected a norm in F32: " + name,
                {{"path", source.path()}, {"tensor", name}});
  std::vector<float> norm(static_cast<std::size_t>(tensor->elements()));
  source.read(*tensor, 0, norm.data(), norm.size() * sizeof(float));
  return norm;
}

}  // namespace

class ImportanceCollector::Observer final : public ActivationObserver {
 public:
  Observer(const Decoder& decoder, const ModelSource& source, ImportanceMatrix& matrix)
      : eps_(decoder.config().rms_norm_eps) {
    for (std::size_t layer = 0; layer < decoder.config().n_layers; layer++)
      for (const ActivationPoint point : kPoints) add_point(layer, point, source, matrix);
  }

  void observe(std::int32_t layer, ActivationPoint point, const float* rows, std::int64_t n,
               std::int64_t cols) override {
    Point& at =
        points_[static_cast<std::size_t>(layer) * std::size(kPoints) + static_cast<std::size_t>(point)];
    squares_.assign(static_cast<std::size_t>(cols), 0.0f);
    for (std::int64_t r = 0; r < n; r++) add_row(at, rows + r * cols, static_cast<std::size_t>(cols));
    for (ImportanceMatrix::Entry* entry : at.entries) {
      for (std::size_t c = 0; c < squares_.size(); c++) entry->sums[c] += squares_[c];
      entry->counts[0] += static_cast<float>(n);
    }
  }

 private:
  struct Point {
    std::vector<float> norm;  // empty: none
    std::vector<ImportanceMatrix::Entry*> entries;
  };

  void add_point(std::size_t layer, ActivationPoint point, const ModelSource& source,
                 ImportanceMatrix& matrix) {
    Point& at = points_.emplace_back();
    for (const std::string& weight : weights_at(point)) {
      const std::string name = layer_prefix(layer) + weight + ".weight";
      const GgufTensor* tensor = source.find_tensor(name);
      if (tensor == nullptr) continue;
      ImportanceMatrix::Entry& entry = matrix.entries[name];
      entry = {.cols = tensor->dims[0],
               .matrices = 1,
               .sums = std::vector<float>(static_cast<std::size_t>(tensor->dims[0])),
               .counts = {0.0f}};
      at.entries.push_back(&entry);
    }
    const std::string_view norm = norm_before(point);
    if (!norm.empty()) at.norm = read_norm(source, layer_prefix(layer) + std::string(norm) + ".weight");
  }

  void add_row(const Point& at, const float* row, std::size_t cols) {
    float scale = 1.0f;
    if (!at.norm.empty()) {
      double sum = 0;
      for (std::size_t c = 0; c < cols; c++) sum += double{row[c]} * row[c];
      scale = static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(cols) + eps_));
    }
    for (std::size_t c = 0; c < cols; c++) {
      const float x = row[c] * scale * (at.norm.empty() ? 1.0f : at.norm[c]);
      squares_[c] += x * x;
    }
  }

  const double eps_;
  std::vector<Point> points_;  // [layers, points]
  std::vector<float> squares_;
};

ImportanceCollector::ImportanceCollector(Decoder& decoder, const ModelSource& source) : decoder_(decoder) {
  if (source.find_tensor("blk.0.ffn_gate_inp.weight") != nullptr)
    throw Error(ErrorCode::unsupported_model,
                "an importance matrix of a mixture of experts is not computed; llama.cpp's can be read",
                {{"path", source.path()}});
  observer_ = std::make_unique<Observer>(decoder, source, matrix_);
  decoder_.observe(observer_.get());
}

ImportanceCollector::~ImportanceCollector() { decoder_.observe(nullptr); }

void ImportanceCollector::add_chunk(std::span<const TokenId> chunk, const CancelFlag& cancel) {
  run_chunk(decoder_, chunk, cancel);
  matrix_.chunk_count++;
  matrix_.chunk_size = chunk.size();
}

}  // namespace cria
