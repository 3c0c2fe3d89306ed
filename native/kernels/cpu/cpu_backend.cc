#include "kernels/cpu/cpu_backend.h"

#include <cstring>
#include <deque>
#include <utility>

#include "core/huge_memory.h"
#include "kernels/cpu/cpu_elementary.h"
#include "kernels/cpu/cpu_kv_cache.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/cpu_weights.h"
#include "kernels/cpu/isa.h"

namespace cria {
namespace {

class CpuActivations final : public Activations {
 public:
  float* allocate(std::size_t n) override {
    memory_.emplace_back(n * sizeof(float), "activations");
    return reinterpret_cast<float*>(memory_.back().data());
  }
  const float* fetch(const float* values, std::size_t) override { return values; }
  void store(float* values, const float* from, std::size_t n) override {
    std::memcpy(values, from, n * sizeof(float));
  }

 private:
  std::deque<HugeMemory> memory_;
};

/// Every op runs when it is called, so there is nothing to frame.
class CpuPasses final : public Passes {
 public:
  void prepare(const PassLimits&) override {}
  bool begin(const Pass&) override { return true; }
  void end() override {}
  void cancel() noexcept override {}
};

class CpuBackend final : public Backend {
 public:
  CpuBackend(const CpuKernels& kernels, int threads, std::string reason)
      : pool_(threads), weights_(kernels), ops_(kernels, pool_), elementary_(ops_, kernels, pool_) {
    info_.device = "cpu";
    info_.device_reason = std::move(reason);
    info_.isa = kernels.isa;
    info_.threads = pool_.size();
    info_.page_tokens = kCpuPageTokens;
    info_.kv_layout = "cpu-1";
    info_.max_batch_tokens = 512;
    info_.prefill_chunk = 256;
  }

  const BackendInfo& info() const override { return info_; }
  std::size_t free_memory() const override { return available_memory(); }
  WeightStore& weights() override { return weights_; }
  KvAllocator& kv() override { return kv_; }
  Activations& activations() override { return activations_; }
  Passes& passes() override { return passes_; }
  Ops& ops() override { return ops_; }
  ElementaryOps& elementary() override { return elementary_; }

 private:
  BackendInfo info_;
  ThreadPool pool_;
  CpuWeights weights_;
  CpuKvAllocator kv_;
  CpuActivations activations_;
  CpuPasses passes_;
  CpuOps ops_;
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
