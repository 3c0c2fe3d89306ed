#include "convert/quantized_source.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "convert/mix.h"
#include "core/error.h"
#include "core/float_bits.h"
#include "io/file_error.h"
#include "kernels/cpu/dequantize.h"
#include "kernels/cpu/weight_quantizer.h"

namespace cria {
namespace {

constexpr std::uint32_t kQuantizationVersion = 2;  // ggml.h, GGML_QNT_VERSION
// Elements that are quantized at a time.
constexpr std::uint64_t kSlabElements = 1 << 16;
constexpr float kF16Overflow = 65520.0f;  // rounds to infinity

bool is_float(DType dtype) { return traits_of(dtype).block_size == 1; }

/// Largest magnitude as bits, ordered like the magnitudes: infinity and NaN above all finite ones.
std::uint32_t max_magnitude(const float* x, std::uint64_t n) {
  std::uint32_t max = 0;
  for (std::uint64_t i = 0; i < n; i++) max = std::max(max, float_bits(x[i]) & 0x7fffffffu);
  return max;
}

/// The least magnitude that a type would store as infinity.
float overflow_of(DType dtype) {
  if (dtype == DType::f16) return kF16Overflow;
  if (dtype == DType::q8_0) return 127.0f * kF16Overflow;
  return INFINITY;
}

void check_range(const std::string& path, const GgufTensor& to, const float* x, std::uint64_t n) {
  const float max = float_from_bits(max_magnitude(x, n));
  if (max < overflow_of(to.dtype)) return;
  const std::string type(name_of(to.dtype));
  throw Error(
      ErrorCode::invalid_model,
      path + ": the tensor " + quote(to.name) +
          (std::isfinite(max) ? " has a weight of " + number_text(max) + ", which is beyond the range of " +
                                    type + "; BF16 and F32 have it"
                              : " has a weight that is not finite"),
      {{"path", path}, {"tensor", to.name}, {"type", type}});
}

}  // namespace

QuantizedSource::QuantizedSource(std::shared_ptr<const ModelSource> source, const QuantizeOptions& options)
    : source_(std::move(source)) {
  path_ = source_->path();
  files_ = source_->files();
  const std::vector<DType> types = mix_types(*source_, options.type, options.importance != nullptr);
  tensors_ = source_->tensors();
  for (std::size_t i = 0; i < tensors_.size(); i++) {
    tensors_[i].dtype = types[i];
    tensors_[i].bytes = row_bytes(types[i], static_cast<std::size_t>(tensors_[i].elements()));
  }
  set_file_metadata(options);
  build_indices();
  check_types(options);
  if (options.importance) load_importance(*options.importance);
}

void QuantizedSource::set_file_metadata(const QuantizeOptions& options) {
  for (std::size_t i = 0; i < source_->metadata().size(); i++) {
    const auto& [key, value] = source_->metadata()[i];
    if (key.starts_with("split.") || key == "general.alignment") continue;
    metadata_.emplace_back(key, value);
    metadata_types_.push_back(source_->metadata_type(i));
  }
  build_indices();
  set_metadata("general.quantization_version", GgufType::u32, std::uint64_t{kQuantizationVersion});
  set_metadata("general.file_type", GgufType::u32, std::uint64_t{static_cast<std::uint32_t>(options.type)});
  if (!options.importance) return;
  const ImportanceMatrix& matrix = *options.importance;
  set_metadata("quantize.imatrix.file", GgufType::string, matrix.path);
  if (!matrix.datasets.empty())
    set_metadata("quantize.imatrix.dataset", GgufType::string, matrix.datasets.front());
  set_metadata("quantize.imatrix.entries_count", GgufType::u32, std::uint64_t{matrix.entries.size()});
  set_metadata("quantize.imatrix.chunks_count", GgufType::u32, matrix.chunk_count);
}

void QuantizedSource::check_types(const QuantizeOptions& options) const {
  for (std::size_t i = 0; i < tensors_.size(); i++) {
    const GgufTensor &from = source_->tensors()[i], &to = tensors_[i];
    if (from.dtype == to.dtype) continue;
    const std::string name(name_of(to.dtype));
    if (!is_float(from.dtype) && !options.requantize)
      throw Error(
          ErrorCode::invalid_argument,
          path_ + ": the tensor " + quote(to.name) + " is quantized already, as " +
              std::string(name_of(from.dtype)) +
              "; convert the original model, or set requantize and accept both errors",
          {{"path", path_}, {"tensor", to.name}, {"found", name_of(from.dtype)}, {"option", "requantize"}});
    if (!can_quantize(to.dtype))
      throw Error(ErrorCode::unsupported_file, "type: no quantizer writes " + name,
                  {{"tensor", to.name}, {"found", name}});
    const bool has_importance = options.importance && options.importance->entries.contains(to.name);
    if (needs_importance(to, to.dtype, options.type) && !has_importance)
      throw Error(ErrorCode::invalid_argument,
                  "imatrix: " + name + " needs an importance matrix, and there is none for the tensor " +
                      quote(to.name),
                  {{"option", "imatrix"}, {"tensor", to.name}, {"type", name}});
  }
}

void QuantizedSource::load_importance(const ImportanceMatrix& matrix) {
  for (const GgufTensor& tensor : tensors_) {
    const auto at = matrix.entries.find(tensor.name);
    if (at == matrix.entries.end()) continue;
    const ImportanceMatrix::Entry& entry = at->second;
    const std::uint64_t n = tensor.dims[2] * tensor.dims[3];
    if (entry.cols != tensor.dims[0] || (entry.matrices != n && entry.matrices != 1))
      throw Error(ErrorCode::invalid_argument,
                  "imatrix: the importance of " + quote(tensor.name) + " has " + std::to_string(entry.cols) +
                      " columns of " + std::to_string(entry.matrices) + " matrices, expected " +
                      std::to_string(tensor.dims[0]) + " of " + std::to_string(n) +
                      "; it is that of another model",
                  {{"option", "imatrix"},
                   {"tensor", tensor.name},
                   {"expected", tensor.dims[0]},
                   {"found", entry.cols}});
    Importance importance{.tensor = tensor.name, .rows = tensor.dims[1], .values = {}};
    if (entry.matrices == 1) importance.rows = tensor.elements() / tensor.dims[0];
    for (std::uint64_t m = 0; m < entry.matrices; m++) {
      const std::vector<float> means = entry.means(m);
      importance.values.insert(importance.values.end(), means.begin(), means.end());
    }
    importance_.push_back(std::move(importance));
  }
  std::sort(importance_.begin(), importance_.end(),
            [](const Importance& a, const Importance& b) { return a.tensor < b.tensor; });
}

const float* QuantizedSource::importance_of(const GgufTensor& tensor, std::uint64_t row) const {
  const auto at =
      std::lower_bound(importance_.begin(), importance_.end(), tensor.name,
                       [](const Importance& a, const std::string& name) { return a.tensor < name; });
  if (at == importance_.end() || at->tensor != tensor.name) return nullptr;
  return at->values.data() + row / at->rows * tensor.dims[0];
}

/// Elements [first, first + count) of a tensor: whole blocks of both types.
void QuantizedSource::quantize_slab(const GgufTensor& from, const GgufTensor& to, std::uint64_t first,
                                    std::uint64_t count, void* dst) const {
  // In words, since blocks are read as aligned structs.
  const std::size_t bytes = row_bytes(from.dtype, static_cast<std::size_t>(count));
  std::vector<std::uint32_t> stored((bytes + 3) / 4);
  source_->read(from, row_bytes(from.dtype, static_cast<std::size_t>(first)), stored.data(), bytes);
  std::vector<float> x(static_cast<std::size_t>(count));
  dequantize_row(from.dtype, stored.data(), x.data(), static_cast<std::int64_t>(count));
  check_range(path_, to, x.data(), count);
  const std::uint64_t cols = to.dims[0];
  for (std::uint64_t i = 0; i < count;) {  // row by row, as an importance matrix speaks of columns
    const std::uint64_t row = (first + i) / cols, col = (first + i) % cols;
    const float* importance = importance_of(to, row);
    const std::uint64_t n = importance ? std::min(cols - col, count - i) : count - i;
    quantize_weights(to.dtype, x.data() + i, importance ? importance + col : nullptr,
                     static_cast<std::byte*>(dst) + row_bytes(to.dtype, static_cast<std::size_t>(i)),
                     static_cast<std::int64_t>(n));
    i += n;
  }
}

void QuantizedSource::read(const GgufTensor& tensor, std::uint64_t offset, void* dst,
                           std::size_t bytes) const {
  const GgufTensor* from = source_->find_tensor(tensor.name);
  if (from == nullptr || offset > tensor.bytes || bytes > tensor.bytes - offset)
    throw Error(ErrorCode::internal, "QuantizedSource: no such part of " + quote(tensor.name));
  if (from->dtype == tensor.dtype) return source_->read(*from, offset, dst, bytes);
  const DTypeTraits& traits = traits_of(tensor.dtype);
  // Blocks have powers of two elements, so that the larger of two sizes is a multiple of the other.
  const std::uint64_t unit = std::max(traits.block_size, traits_of(from->dtype).block_size);
  const std::uint64_t end = offset + bytes;
  std::uint64_t at = offset / traits.block_bytes * traits.block_size / unit * unit;
  std::vector<std::uint32_t> slab;
  for (std::uint64_t count; at < tensor.elements(); at += count) {
    const std::uint64_t begin = row_bytes(tensor.dtype, static_cast<std::size_t>(at));
    if (begin >= end) break;
    const std::uint64_t blocks = (end - begin + traits.block_bytes - 1) / traits.block_bytes;
    const std::uint64_t wanted = (blocks * traits.block_size + unit - 1) / unit * unit;
    count = std::min({wanted, kSlabElements, tensor.elements() - at});
    const std::size_t size = row_bytes(tensor.dtype, static_cast<std::size_t>(count));
    slab.resize((size + 3) / 4);
    quantize_slab(*from, tensor, at, count, slab.data());
    const std::uint64_t from_byte = std::max(begin, offset), to_byte = std::min(begin + size, end);
    std::memcpy(static_cast<std::byte*>(dst) + (from_byte - offset),
                reinterpret_cast<const std::byte*>(slab.data()) + (from_byte - begin),
                static_cast<std::size_t>(to_byte - from_byte));
  }
}

}  // namespace cria
