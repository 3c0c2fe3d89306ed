#include "kernels/cuda/cuda_backend.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/units.h"
#include "kernels/cuda/context.h"
#include "kernels/cuda/cuda_elementary.h"
#include "kernels/cuda/cuda_kv_cache.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_weights.h"
#include "kernels/cuda/kv_cache.h"

namespace cria {
namespace cuda {
namespace {

constexpr std::int32_t kMaxBatchTokens = 4096, kPrefillChunk = 1024;
constexpr int kMinCapability = 75;

/// CRIA_CUDA_GRAPHS=0 turns recorded passes off.
bool graphs_wanted() {
  const char* value = std::getenv("CRIA_CUDA_GRAPHS");
  return !value || std::strcmp(value, "0") != 0;
}

class CudaActivations final : public Activations {
 public:
  explicit CudaActivations(const Context& context) : context_(context) {}

  float* allocate(std::size_t n) override {
    context_.bind();
    memory_.push_back(allocate_array<float>(n, "activations"));
    fill_bytes(memory_.back().get(), 0, n * sizeof(float), context_.stream());
    synchronize(context_.stream());
    return memory_.back().get();
  }

  const float* fetch(const float* values, std::size_t n) override {
    context_.bind();
    reserve_fetched(n);
    copy_to_host(fetched_.get(), values, n * sizeof(float), context_.stream());
    synchronize(context_.stream());
    return fetched_.get();
  }

  void store(float* values, const float* from, std::size_t n) override {
    context_.bind();
    copy_to_device(values, from, n * sizeof(float), context_.stream());
    synchronize(context_.stream());
  }

 private:
  void reserve_fetched(std::size_t n) {
    if (n <= fetched_size_) return;
    fetched_size_ = 0;
    fetched_ = allocate_pinned_array<float>(n, "results");
    fetched_size_ = n;
  }

  const Context& context_;
  std::vector<DeviceMemory<float>> memory_;
  PinnedMemory<float> fetched_;
  std::size_t fetched_size_ = 0;
};

class CudaBackend final : public Backend {
 public:
  CudaBackend(int device, std::string reason, std::int32_t n_layers) : context_(device) {
    const DeviceProperties& properties = context_.properties();
    info_.device = std::string(device_kind()) + ":" + std::to_string(device);
    info_.device_reason =
        std::move(reason) + "; " + properties.name + ", " + mib(properties.total_memory) + " of memory";
    info_.isa = "sm_" + std::to_string(properties.major * 10 + properties.minor);
    info_.threads = 1;
    info_.page_tokens = kKvPageTokens;
    info_.kv_layout = kKvLayout;
    info_.max_batch_tokens = kMaxBatchTokens;
    info_.prefill_chunk = kPrefillChunk;
    info_.name = properties.name;
    info_.gpu_layers = n_layers;
  }
  ~CudaBackend() override { context_.settle(); }

  const BackendInfo& info() const override { return info_; }
  std::size_t free_memory() const override {
    context_.bind();
    return memory_info().free;
  }
  WeightStore& weights() override { return weights_; }
  KvAllocator& kv() override { return kv_; }
  Activations& activations() override { return activations_; }
  Passes& passes() override { return ops_; }
  Ops& ops() override { return ops_; }
  ElementaryOps& elementary() override { return elementary_; }

 private:
  BackendInfo info_;
  Context context_;
  CudaWeights weights_{context_};
  CudaKvAllocator kv_{context_};
  CudaActivations activations_{context_};
  CudaOps ops_{context_, weights_, graphs_wanted()};
  CudaElementary elementary_{context_, ops_};
};

/// The number in "cuda:<number>"; 0 without one.
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

/// Throws ERR_UNSUPPORTED_DEVICE if the device cannot run the kernels.
void check_device(int device) {
  const DriverInfo driver = probe_driver();
  const auto refuse = [&](const std::string& why) {
    throw Error(ErrorCode::unsupported_device, why,
                {{"device", std::string(device_kind()) + ":" + std::to_string(device)},
                 {"driverVersion", driver.driver_version},
                 {"devices", driver.device_count}});
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
    why_not = "this build has only the CPU backend";
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
