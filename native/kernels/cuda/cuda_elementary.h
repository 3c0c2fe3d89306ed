// The elementary ops on CUDA: launches into the stream of the fused ones.
#pragma once

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/owned.h"
#include "kernels/elementary.h"

namespace cria::cuda {

class CudaElementary final : public ElementaryOps {
 public:
  /// Both outlive it.
  CudaElementary(const Context& context, CudaOps& ops) : context_(context), ops_(ops), argmax_(context) {}

  TensorMemory allocate(std::size_t bytes) override;
  TensorMemory to_device(TensorMemory host) override;
  TensorMemory to_host(TensorMemory device) override;
  void copy(void* to, const void* from, std::size_t bytes) override;
  PackedWeights pack_weights(std::span<const WeightSpec> specs, std::span<const TensorMemory> host) override;
  double time_us(const std::function<void()>& op) override;
  DeviceCeilings measure_ceilings(const CancelFlag& cancel) override;
  std::unique_ptr<MemoryProbe> memory_probe() override { return nullptr; }

  void rms_norm(const cria::RmsNormArgs& args) override;
  void add_rms_norm(const cria::AddRmsNormArgs& args) override;
  void rope(const cria::RopeArgs& args) override;
  void matmul(const cria::MatmulArgs& args) override;
  void silu_mul(const cria::SiluMulArgs& args) override;
  void softmax(const cria::SoftmaxArgs& args) override;
  void argmax(const cria::ArgmaxArgs& args) override;
  void quantize(const cria::QuantizeArgs& args) override;
  void dequantize(const cria::DequantizeArgs& args) override;
  void write_kv(const cria::KvCopyArgs& args) override;
  void read_kv(const cria::KvCopyArgs& args) override;

 private:
  TensorMemory allocate_uninitialised(std::size_t bytes) const;

  const Context& context_;
  CudaOps& ops_;
  OwnedEvent begin_, end_;  // created with the first measurement
  TokenSampler argmax_;
  std::int32_t argmax_rows_ = 0;
  std::int64_t argmax_cols_ = 0;
  bool argmax_must_clear_ = true;  // its workspace is new, or a launch failed
};

}  // namespace cria::cuda
