#include "kernels/cpu/cpu_weights.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/error.h"
#include "kernels/cpu/repack.h"

namespace cria {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kPartBytes = std::size_t{8} << 20;
// What is read and repacked at a time stays in L2.
constexpr std::size_t kReadBytes = std::size_t{256} << 10;
// Kernels prefetch, and never load, past the end of a matrix.
constexpr std::size_t kPrefetchSlack = std::size_t{1} << 16;

std::size_t padded_bytes(const WeightSpec& s) {
  return (matrix_bytes(s.dtype, s.rows, s.cols) + kAlignment - 1) / kAlignment * kAlignment;
}

/// Rows of a quantized matrix are read into a buffer in the cache and repacked from there. The other matrices
/// are read straight into place.
class CpuWeightUpload final : public WeightUpload {
 public:
  CpuWeightUpload(const CpuKernels& kernels, std::span<const WeightSpec> specs, std::byte* region)
      : kernels_(kernels) {
    std::size_t at = 0;
    for (const WeightSpec& s : specs) {
      const bool repacked = is_repacked(s.dtype);
      const std::size_t row = row_bytes(s.dtype, static_cast<std::size_t>(s.cols));
      const std::size_t bytes = row * static_cast<std::size_t>(s.rows);
      const std::size_t unit = repacked ? row * kPanelRows : 1;
      const std::size_t part = std::max<std::size_t>(1, kPartBytes / unit) * unit;
      for (std::size_t from = 0; from < bytes; from += part)
        parts_.push_back({{WeightRange{weights_.size(), from, std::min(part, bytes - from)}}, 1});
      weights_.push_back({.data = region + at,
                          .dtype = s.dtype,
                          .rows = s.rows,
                          .cols = s.cols,
                          .layout = repacked ? kPanels : kFileRows});
      at += padded_bytes(s);
    }
  }

  std::span<const WeightPart> parts() const override { return parts_; }

  void fill(std::size_t part, const std::function<void(const WeightRange&, void*)>& read) override {
    const WeightRange& range = parts_[part].ranges[0];
    const Weight& w = weights_[range.index];
    auto* matrix = const_cast<std::byte*>(static_cast<const std::byte*>(w.data));
    if (w.layout == kFileRows) return read(range, matrix + range.offset);
    const std::size_t row = row_bytes(w.dtype, static_cast<std::size_t>(w.cols));
    const std::size_t step = std::max<std::size_t>(1, kReadBytes / (row * kPanelRows)) * row * kPanelRows;
    std::vector<std::byte> rows(std::min(step, range.bytes));
    for (std::size_t from = range.offset; from < range.offset + range.bytes; from += step) {
      const std::size_t bytes = std::min(step, range.offset + range.bytes - from);
      read({.index = range.index, .offset = from, .bytes = bytes}, rows.data());
      repack_rows(kernels_, w.dtype, w.cols, static_cast<std::int64_t>(from / row),
                  static_cast<std::int64_t>(bytes / row), rows.data(), matrix);
    }
  }

  std::vector<Weight> finish() override { return std::move(weights_); }

 private:
  const CpuKernels& kernels_;
  std::vector<Weight> weights_;
  std::vector<WeightPart> parts_;
};

}  // namespace

std::uint64_t CpuWeights::bytes(std::span<const WeightSpec> specs) const {
  std::uint64_t bytes = kPrefetchSlack;
  for (const WeightSpec& s : specs) bytes += padded_bytes(s);
  return bytes;
}

std::unique_ptr<WeightUpload> CpuWeights::upload(std::span<const WeightSpec> specs) {
  const std::size_t needed = bytes(specs);
  const std::size_t available = available_memory();
  if (needed > available) {
    throw Error(ErrorCode::out_of_memory,
                "the weights need " + std::to_string(needed) + " bytes, available are " +
                    std::to_string(available) + "; use a smaller model or a narrower quantization",
                {{"requestedBytes", needed}, {"availableBytes", available}});
  }
  memory_.emplace_back(needed, "weights");
  return std::make_unique<CpuWeightUpload>(kernels_, specs, memory_.back().data());
}

std::vector<Weight> CpuWeights::adopt(std::span<const WeightSpec> specs, std::span<const void* const> data,
                                      std::shared_ptr<const void> owner) {
  std::vector<Weight> weights;
  for (std::size_t i = 0; i < specs.size(); i++)
    weights.push_back({.data = data[i],
                       .dtype = specs[i].dtype,
                       .rows = specs[i].rows,
                       .cols = specs[i].cols,
                       .layout = kFileRows});
  owners_.push_back(std::move(owner));
  return weights;
}

}  // namespace cria
