#include "kernels/cuda/cuda_backend.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "core/error.h"
#include "kernels/cuda/cuda_elementary.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/kv_page.h"
#include "kernels/cuda/weight_upload.h"

namespace cria {
namespace cuda {
namespace {

constexpr std::int32_t kMaxBatchTokens = 4096, kPrefillChunk = 1024;
constexpr int kMinCapability = 75;

std::string mib(std::uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

/// CRIA_CUDA_GRAPHS=0: every pass kernel by kernel.
bool graphs_wanted() {
  const char* value = std::getenv("CRIA_CUDA_GRAPHS");
  return !value || std::strcmp(value, "0") != 0;
}

class CudaBackend final : public CudaOps {
 public:
  CudaBackend(int device, std::string reason, std::int32_t n_layers) : CudaOps(device, graphs_wanted()) {
    info_.device = std::string(device_kind()) + ":" + std::to_string(device);
    info_.device_reason =
        std::move(reason) + "; " + properties_.name + ", " + mib(properties_.total_memory) + " of memory";
    info_.isa = "sm_" + std::to_string(properties_.major * 10 + properties_.minor);
    info_.threads = 1;
    info_.page_tokens = kKvPageTokens;
    info_.kv_layout = kKvLayout;
    info_.max_batch_tokens = kMaxBatchTokens;
    info_.prefill_chunk = kPrefillChunk;
    info_.name = properties_.name;
    info_.gpu_layers = n_layers;
  }
  ~CudaBackend() override {
    try {  // for the thread that frees the memory
      bind();
      synchronize(stream());
    } catch (...) {
    }
  }

  const BackendInfo& info() const override { return info_; }
  std::size_t free_memory() const override {
    bind();
    return memory_info().free;
  }

  std::uint64_t weight_bytes(std::span<const WeightSpec> specs) const override {
    return WeightPlan(specs).bytes;
  }

  std::unique_ptr<WeightUpload> upload_weights(std::span<const WeightSpec> specs) override {
    bind();
    const WeightPlan plan(specs);
    note_weights(specs, plan);
    memory_.push_back(allocate_array<std::byte>(plan.bytes, "the model's weights"));
    return std::make_unique<CudaWeightUpload>(device_, specs, plan, memory_.back().get());
  }

  std::vector<Weight> adopt_weights(std::span<const WeightSpec>, std::span<const void* const>,
                                    std::shared_ptr<const void>) override {
    throw Error(ErrorCode::unsupported_device,
                "mmap: weights are used where the file is mapped on the CPU alone; leave mmap away, or use "
                "device: 'cpu'",
                {{"device", info_.device}});
  }

  std::size_t kv_page_bytes(const AttentionShape& shape, DType kv_dtype) const override {
    return cuda::kv_page_bytes(shape, kv_dtype);
  }

  std::vector<KvLayer> allocate_kv(const AttentionShape& shape, DType kv_dtype, std::int32_t n_layers,
                                   std::int32_t n_pages) override {
    bind();
    const std::size_t page = cuda::kv_page_bytes(shape, kv_dtype),
                      layer = page * static_cast<std::size_t>(n_pages),
                      bytes = layer * static_cast<std::size_t>(n_layers);
    memory_.push_back(allocate_array<std::byte>(bytes, "the KV cache"));
    std::byte* const pages = memory_.back().get();
    fill_bytes(pages, 0, bytes, stream());
    synchronize(stream());
    std::vector<KvLayer> layers;
    for (std::int32_t i = 0; i < n_layers; i++)
      layers.push_back({pages + layer * static_cast<std::size_t>(i), page, kv_dtype, kKvPageTokens});
    return layers;
  }

  void copy_kv_page(std::span<const KvLayer> layers, std::int32_t from, std::int32_t to) override {
    bind();
    for (const KvLayer& layer : layers)
      copy_on_device(page_of(layer, to), page_of(layer, from), layer.page_stride, stream());
    synchronize(stream());
  }

  void read_kv_page(const AttentionShape& shape, const KvLayer& layer, std::int32_t page,
                    std::int32_t n_tokens, std::byte* to) override {
    bind();
    copy_to_host(to, page_of(layer, page), layer.page_stride, stream());
    synchronize(stream());
    clear_page_from(shape, layer.dtype, n_tokens, to);
  }

  void write_kv_page(const KvLayer& layer, std::int32_t page, const std::byte* from) override {
    bind();
    copy_to_device(page_of(layer, page), from, layer.page_stride, stream());
    synchronize(stream());
  }

  float* allocate_activations(std::size_t n) override {
    bind();
    memory_.push_back(allocate_array<std::byte>(n * sizeof(float), "activations"));
    fill_bytes(memory_.back().get(), 0, n * sizeof(float), stream());
    synchronize(stream());
    return reinterpret_cast<float*>(memory_.back().get());
  }

  const float* fetch(const float* values, std::size_t n) override {
    bind();
    if (n > fetched_size_) {
      fetched_size_ = 0;
      fetched_ = allocate_pinned_array<float>(n, "results");
      fetched_size_ = n;
    }
    copy_to_host(fetched_.get(), values, n * sizeof(float), stream());
    synchronize(stream());
    return fetched_.get();
  }

  void store(float* values, const float* from, std::size_t n) override {
    bind();
    copy_to_device(values, from, n * sizeof(float), stream());
    synchronize(stream());
  }

  void prepare_passes(const PassLimits& limits) override {
    CudaOps::prepare_passes(limits);
    const auto vocab = static_cast<std::size_t>(limits.vocab);
    if (vocab <= fetched_size_) return;
    fetched_size_ = 0;
    fetched_ = allocate_pinned_array<float>(vocab, "results");
    fetched_size_ = vocab;
  }

  ElementaryOps& elementary() override { return elementary_; }

 private:
  static std::byte* page_of(const KvLayer& layer, std::int32_t page) {
    return layer.pages + static_cast<std::size_t>(page) * layer.page_stride;
  }

  BackendInfo info_;
  std::vector<DeviceMemory<std::byte>> memory_;
  PinnedMemory<float> fetched_;
  std::size_t fetched_size_ = 0;
  CudaElementary elementary_{*this};
};

/// The number behind the name; 0 without one.
int device_number(std::string_view name) {
  const std::size_t colon = name.find(':');
  if (colon == std::string_view::npos) return 0;
  int number = -1;
  const char* const end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + colon + 1, end, number);
  if (error != std::errc() || stop != end || number < 0)
    throw Error(ErrorCode::invalid_argument,
                "device must be 'auto', 'cpu', 'cuda' or 'cuda:<number>', found '" + std::string(name) + "'",
                {{"device", std::string(name)}});
  return number;
}

/// Throws ERR_UNSUPPORTED_DEVICE where the device cannot run the kernels.
void check_device(int device) {
  const DriverInfo driver = probe_driver();
  const auto refuse = [&](const std::string& why) {
    throw Error(ErrorCode::unsupported_device, why,
                {{"device", std::string(device_kind()) + ":" + std::to_string(device)},
                 {"driverVersion", static_cast<double>(driver.driver_version)},
                 {"devices", static_cast<double>(driver.device_count)}});
  };
  if (driver.state != DriverState::ready) refuse(driver.message);
  if (device >= driver.device_count)
    refuse("there is no CUDA device " + std::to_string(device) + ": the driver shows " +
           std::to_string(driver.device_count));
  const DeviceProperties p = device_properties(device);
  if (p.major * 10 + p.minor < kMinCapability)
    refuse(p.name + " has compute capability " + std::to_string(p.major) + "." + std::to_string(p.minor) +
           ", this build's kernels need 7.5 or newer");
}

}  // namespace
}  // namespace cuda

bool is_cuda_device(std::string_view name) {
  const std::string_view kind = cuda::device_kind();
  return name.starts_with(kind) && (name.size() == kind.size() || name[kind.size()] == ':');
}

std::unique_ptr<Backend> create_cuda_backend(const BackendOptions& options) {
  const int device = cuda::device_number(options.device);
  cuda::check_device(device);
  return std::make_unique<cuda::CudaBackend>(device, "asked for by name", options.n_layers);
}

std::unique_ptr<Backend> create_cuda_backend_if_usable(const BackendOptions& options, std::string& why_not) {
  if (!is_cuda_device("cuda")) {
    why_not = "this build has the CPU backend alone";
    return nullptr;
  }
  try {
    cuda::check_device(0);
    return std::make_unique<cuda::CudaBackend>(0, "auto: a CUDA device is ready", options.n_layers);
  } catch (const Error& e) {
    why_not = e.what();
    return nullptr;
  }
}

}  // namespace cria
