#include "model/adapter_reader.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/float_bits.h"
#include "io/file_error.h"

namespace cria {
namespace {

std::string shape_text(std::int64_t rows, std::int64_t cols) {
  return "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
}

std::vector<float> read_values(const AdapterReader::Half& half) {
  const auto n = static_cast<std::size_t>(half.rows) * static_cast<std::size_t>(half.cols);
  std::vector<float> values(n);
  if (half.dtype == DType::f32) {
    half.read(values.data(), n * sizeof(float));
    return values;
  }
  std::vector<std::uint16_t> bits(n);
  half.read(bits.data(), n * sizeof(std::uint16_t));
  std::ranges::transform(bits, values.begin(), half.dtype == DType::f16 ? f16_to_f32 : bf16_to_f32);
  return values;
}

}  // namespace

void throw_invalid_adapter(const std::string& path, const std::string& what, const std::string& expected,
                           const std::string& found) {
  throw Error(ErrorCode::invalid_model, path + ": " + what + ": expected " + expected + ", found " + found,
              {{"path", path}, {"expected", expected}, {"found", found}});
}

void throw_unsupported_adapter(const std::string& path, const std::string& what, const std::string& why) {
  throw Error(ErrorCode::unsupported_model, path + ": " + what + ": " + why, {{"path", path}});
}

void AdapterReader::add(std::uint64_t layer, Projection projection, Which which, Half half) {
  if (layer >= config_.n_layers)
    throw_invalid_adapter(
        path_, "tensor " + quote(half.name),
        "a layer below " + std::to_string(config_.n_layers) + ", the model's number of them",
        "layer " + std::to_string(layer));
  Halves& halves = targets_[{.layer = static_cast<std::int32_t>(layer), .projection = projection}];
  Half& place = which == Which::a ? halves.a : halves.b;
  if (place.read)
    throw_invalid_adapter(path_, "tensor " + quote(half.name), "one tensor for its place",
                          quote(place.name) + " too");
  place = std::move(half);
}

std::pair<std::int64_t, std::int64_t> AdapterReader::shape_of(Projection projection) const {
  const std::int64_t hidden = config_.hidden, ffn = config_.ffn_hidden;
  const std::int64_t q = std::int64_t{config_.n_heads} * config_.head_dim;
  const std::int64_t kv = std::int64_t{config_.n_kv_heads} * config_.head_dim;
  switch (projection) {
    case Projection::query: return {q, hidden};
    case Projection::key:
    case Projection::value: return {kv, hidden};
    case Projection::attention_output: return {hidden, q};
    case Projection::gate:
    case Projection::up: return {ffn, hidden};
    case Projection::down: return {hidden, ffn};
  }
  throw Error(ErrorCode::internal, "unknown projection");
}

void AdapterReader::check(const Target& target, const Halves& halves) const {
  const Half &a = halves.a, &b = halves.b;
  if (!a.read || !b.read)
    throw_invalid_adapter(path_, "tensor " + quote(a.read ? a.name : b.name),
                          "its counterpart, the other half of the low-rank update", "no such tensor");
  for (const Half* half : {&a, &b})
    if (half->dtype != DType::f32 && half->dtype != DType::f16 && half->dtype != DType::bf16)
      throw_unsupported_adapter(
          path_, "tensor " + quote(half->name),
          "an adapter in " + std::string(name_of(half->dtype)) + " is not supported; use F32, F16 or BF16");
  if (config_.n_experts > 0 && target.projection >= Projection::gate)
    throw_unsupported_adapter(path_, "tensor " + quote(a.name),
                              "the model has experts here, whose adapters are not supported");
  const auto [rows, cols] = shape_of(target.projection);
  const std::string model_shape = " (the model's matrix is " + shape_text(rows, cols) + ")";
  if (a.rows < 1 || a.cols != cols)
    throw_invalid_adapter(path_, "tensor " + quote(a.name),
                          "shape [rank, " + std::to_string(cols) + "]" + model_shape,
                          shape_text(a.rows, a.cols));
  if (b.rows != rows || b.cols != a.rows)
    throw_invalid_adapter(path_, "tensor " + quote(b.name), "shape " + shape_text(rows, a.rows) + model_shape,
                          shape_text(b.rows, b.cols));
}

/// Hugging Face's weights rotate dimensions i and i + d/2 of a head together, the kernels here 2i and 2i + 1.
/// The rows of B are outputs, so they move as the rows of the model's matrix do.
void AdapterReader::to_model_order(AdapterMatrix& matrix) const {
  const std::size_t rank = static_cast<std::size_t>(matrix.rank), d = config_.head_dim;
  const std::vector<float> from = matrix.b;
  const std::size_t rows = from.size() / rank;
  for (std::size_t row = 0; row < rows; row++) {
    const std::size_t head = row / d, i = row % d;
    const std::size_t source = head * d + i / 2 + (i % 2) * (d / 2);
    std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(source * rank), rank,
                matrix.b.begin() + static_cast<std::ptrdiff_t>(row * rank));
  }
}

std::vector<AdapterMatrix> AdapterReader::read(const Scale& scale, bool rotate_half,
                                               const CancelFlag& cancel) const {
  if (targets_.empty())
    throw_invalid_adapter(path_, "the adapter", "the two matrices of at least one projection", "none");
  for (const auto& [target, halves] : targets_) check(target, halves);
  std::vector<AdapterMatrix> matrices;
  for (const auto& [target, halves] : targets_) {
    cancel.check();
    const auto factor = static_cast<float>(scale(target, halves.a));
    if (!std::isfinite(factor))
      throw_invalid_adapter(path_, "tensor " + quote(halves.a.name), "a finite scale", "an infinite one");
    AdapterMatrix& matrix = matrices.emplace_back(AdapterMatrix{.layer = target.layer,
                                                                .projection = target.projection,
                                                                .rank = halves.a.rows,
                                                                .a = read_values(halves.a),
                                                                .b = read_values(halves.b),
                                                                .scale = factor});
    const bool has_rope = target.projection == Projection::query || target.projection == Projection::key;
    if (has_rope && rotate_half && config_.rope_layout == RopeLayout::interleaved) to_model_order(matrix);
  }
  return matrices;
}

}  // namespace cria
