// The elementary ops on the CPU: rows shared out over the pool of the fused ones.
#pragma once

#include <vector>

#include "core/thread_pool.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/elementary.h"

namespace cria {

class CpuElementary final : public ElementaryOps {
 public:
  /// All three outlive it.
  CpuElementary(CpuOps& ops, const CpuKernels& kernels, ThreadPool& pool)
      : ops_(ops), kernels_(kernels), pool_(pool) {}

  TensorMemory allocate(std::size_t bytes) override { return allocate_host(bytes); }
  TensorMemory to_device(TensorMemory host) override { return host; }
  TensorMemory to_host(TensorMemory device) override { return device; }
  void copy(void* to, const void* from, std::size_t bytes) override;
  PackedWeights pack_weights(std::span<const WeightSpec> specs, std::span<const TensorMemory> host) override;
  double time_us(const std::function<void()>& op) override;
  DeviceCeilings measure_ceilings(const CancelFlag& cancel) override;
  std::unique_ptr<MemoryProbe> memory_probe() override;

  void rms_norm(const RmsNormArgs& args) override;
  void add_rms_norm(const AddRmsNormArgs& args) override;
  void rope(const RopeArgs& args) override;
  void matmul(const MatmulArgs& args) override;
  void silu_mul(const SiluMulArgs& args) override;
  void softmax(const SoftmaxArgs& args) override;
  void argmax(const ArgmaxArgs& args) override;
  void quantize(const QuantizeArgs& args) override;
  void dequantize(const DequantizeArgs& args) override;
  void write_kv(const KvCopyArgs& args) override;
  void read_kv(const KvCopyArgs& args) override;

 private:
  CpuOps& ops_;
  const CpuKernels& kernels_;
  ThreadPool& pool_;
  TensorMemory scratch_;  // a row for each thread
};

}  // namespace cria
