#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/huge_memory.h"
#include "kernels/cpu/cpu_elementary.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/repack.h"

namespace cria {
namespace {

constexpr std::size_t kWeightAlignment = 64;
constexpr std::size_t kPartBytes = std::size_t{8} << 20;
constexpr std::size_t kReadBytes = std::size_t{256} << 10;  // that are repacked at a time
constexpr std::size_t kPrefetchSlack = std::size_t{1}
                                       << 16;  // kernels prefetch, and never load, past a matrix's end

// Rows are read into a buffer that stays in the cache and repacked from there; what is not repacked is
// read straight into place.
class CpuWeightUpload : public WeightUpload {
 public:
  CpuWeightUpload(const CpuKernels& kernels, std::span<const WeightSpec> specs, std::byte* region)
      : kernels_(kernels) {
    std::size_t at = 0;
    for (const WeightSpec& s : specs) {
      const bool repacked = is_repacked(s.dtype);
      const std::size_t row = row_bytes(s.dtype, static_cast<std::size_t>(s.cols)),
                        bytes = row * static_cast<std::size_t>(s.rows);
      const std::size_t unit = repacked ? row * kPanelRows : 1;
      const std::size_t part = std::max<std::size_t>(1, kPartBytes / unit) * unit;
      for (std::size_t from = 0; from < bytes; from += part)
        parts_.push_back({{WeightRange{weights_.size(), from, std::min(part, bytes - from)}}, 1});
      weights_.push_back({region + at, s.dtype, s.rows, s.cols, repacked});
      at += padded_bytes(s);
    }
  }

  static std::size_t padded_bytes(const WeightSpec& s) {
    return (matrix_bytes(s.dtype, s.rows, s.cols) + kWeightAlignment - 1) / kWeightAlignment *
           kWeightAlignment;
  }

  std::span<const WeightPart> parts() const override { return parts_; }
  void fill(std::size_t part, const std::function<void(const WeightRange&, void*)>& read) override {
    const WeightRange& range = parts_[part].ranges[0];
    const Weight& w = weights_[range.index];
    auto* matrix = const_cast<std::byte*>(static_cast<const std::byte*>(w.data));
    if (!w.repacked) return read(range, matrix + range.offset);
    const std::size_t row = row_bytes(w.dtype, static_cast<std::size_t>(w.cols));
    const std::size_t step = std::max<std::size_t>(1, kReadBytes / (row * kPanelRows)) * row * kPanelRows;
    std::vector<std::byte> rows(std::min(step, range.bytes));
    for (std::size_t from = range.offset; from < range.offset + range.bytes; from += step) {
      const std::size_t bytes = std::min(step, range.offset + range.bytes - from);
      read({range.index, from, bytes}, rows.data());
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

class CpuBackend final : public CpuOps {
 public:
  CpuBackend(const CpuKernels& kernels, int threads, std::string reason)
      : CpuOps(kernels, threads), elementary_(*this, kernels, pool_) {
    info_ = {"cpu", std::move(reason), kernels.isa, pool_.size(), kCpuPageTokens, "cpu-1", 512, 256};
  }

  const BackendInfo& info() const override { return info_; }
  std::size_t free_memory() const override { return available_memory(); }

  std::uint64_t weight_bytes(std::span<const WeightSpec> specs) const override {
    std::uint64_t bytes = kPrefetchSlack;
    for (const WeightSpec& s : specs) bytes += CpuWeightUpload::padded_bytes(s);
    return bytes;
  }

  std::unique_ptr<WeightUpload> upload_weights(std::span<const WeightSpec> specs) override {
    const std::size_t bytes = weight_bytes(specs);
    const std::size_t available = available_memory();
    if (bytes > available) {
      throw Error(ErrorCode::out_of_memory,
                  "the weights need " + std::to_string(bytes) + " bytes, available are " +
                      std::to_string(available) + "; use a smaller model or a narrower quantization",
                  {{"requestedBytes", static_cast<double>(bytes)},
                   {"availableBytes", static_cast<double>(available)}});
    }
    memory_.emplace_back(bytes, "weights");
    return std::make_unique<CpuWeightUpload>(kernels_, specs, memory_.back().data());
  }

  std::vector<Weight> adopt_weights(std::span<const WeightSpec> specs, std::span<const void* const> data,
                                    std::shared_ptr<const void> owner) override {
    std::vector<Weight> weights;
    for (std::size_t i = 0; i < specs.size(); i++)
      weights.push_back({data[i], specs[i].dtype, specs[i].rows, specs[i].cols});
    owners_.push_back(std::move(owner));
    return weights;
  }

  std::size_t kv_page_bytes(const AttentionShape& shape, DType kv_dtype) const override {
    return kv_block_elements(shape.head_dim) * (kv_dtype == DType::f32 ? 4 : 2) *
           static_cast<std::size_t>(shape.n_kv_heads);
  }

  std::vector<KvLayer> allocate_kv(const AttentionShape& shape, DType kv_dtype, std::int32_t n_layers,
                                   std::int32_t n_pages) override {
    const std::size_t page = kv_page_bytes(shape, kv_dtype), layer = page * static_cast<std::size_t>(n_pages);
    memory_.emplace_back(layer * static_cast<std::size_t>(n_layers), "the KV cache");
    std::vector<KvLayer> layers;
    for (std::int32_t i = 0; i < n_layers; i++)
      layers.push_back(
          {memory_.back().data() + layer * static_cast<std::size_t>(i), page, kv_dtype, kCpuPageTokens});
    return layers;
  }

  void copy_kv_page(std::span<const KvLayer> layers, std::int32_t from, std::int32_t to) override {
    for (const KvLayer& layer : layers)
      std::memcpy(page_of(layer, to), page_of(layer, from), layer.page_stride);
  }
  void read_kv_page(const AttentionShape& shape, const KvLayer& layer, std::int32_t page,
                    std::int32_t n_tokens, std::byte* to) override {
    std::memcpy(to, page_of(layer, page), layer.page_stride);
    if (n_tokens >= kCpuPageTokens) return;
    const std::size_t element = layer.dtype == DType::f32 ? 4 : 2;
    const std::size_t head_bytes = kv_block_elements(shape.head_dim) * element;
    const auto head_dim = static_cast<std::size_t>(shape.head_dim), n = static_cast<std::size_t>(n_tokens);
    for (std::byte* head = to; head < to + layer.page_stride; head += head_bytes) {
      // K: [head_dim, page_tokens], V behind it: [page_tokens, head_dim and padding].
      for (std::size_t d = 0; d < head_dim; d++)
        std::memset(head + (d * kCpuPageTokens + n) * element, 0, (kCpuPageTokens - n) * element);
      const std::size_t v_bytes = head_bytes - head_dim * kCpuPageTokens * element;
      std::memset(head + head_bytes - v_bytes + v_bytes / kCpuPageTokens * n, 0,
                  v_bytes / kCpuPageTokens * (kCpuPageTokens - n));
    }
  }
  void write_kv_page(const KvLayer& layer, std::int32_t page, const std::byte* from) override {
    std::memcpy(page_of(layer, page), from, layer.page_stride);
  }

  float* allocate_activations(std::size_t n) override {
    memory_.emplace_back(n * sizeof(float), "activations");
    return reinterpret_cast<float*>(memory_.back().data());
  }

  const float* fetch(const float* values, std::size_t) override { return values; }
  void store(float* values, const float* from, std::size_t n) override {
    std::memcpy(values, from, n * sizeof(float));
  }

  ElementaryOps& elementary() override { return elementary_; }

 private:
  static std::byte* page_of(const KvLayer& layer, std::int32_t page) {
    return layer.pages + static_cast<std::size_t>(page) * layer.page_stride;
  }

  BackendInfo info_;
  std::deque<HugeMemory> memory_;
  std::vector<std::shared_ptr<const void>> owners_;  // of adopted weights
  CpuElementary elementary_;
};

}  // namespace

std::unique_ptr<Backend> create_cpu_backend(const BackendOptions& options, std::string reason) {
  const CpuKernels& kernels = choose_level(options.isa);
  const int threads = options.threads > 0 ? options.threads : usable_cores();
  return std::make_unique<CpuBackend>(kernels, threads,
                                      std::move(reason) + "; instruction set " + kernels.isa);
}

}  // namespace cria
