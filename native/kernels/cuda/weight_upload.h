// Weights on their way from a file to the device: read into host memory, repacked (matmul.h) into page-locked
// memory, copied, in parts of some MiB.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/owned.h"

namespace cria::cuda {

/// Weight::layout on CUDA.
enum CudaWeightLayout : std::uint8_t {
  kSeparate = 0,
  /// The tiles follow those of the weight before it: both can be multiplied as one matrix.
  kContinuesPrevious = 1,
  /// One matrix with the rows of gate and up fused (matmul.h); both weights describe it.
  kFusedGateUp = 2,
};

/// Where weights will lie. Consecutive matrices of one type and width lie end to end where their rows fill
/// whole tiles; gate and up of one type are fused.
struct WeightPlan {
  struct Place {
    std::size_t offset = 0;
    CudaWeightLayout layout = kSeparate;
    bool comes_with_gate = false;  // an `up` that is uploaded with the weight before it
  };
  std::vector<Place> places;
  std::size_t bytes = 0;
  explicit WeightPlan(std::span<const WeightSpec> specs);
};

class CudaWeightUpload final : public WeightUpload {
 public:
  /// To plan.bytes bytes at `region`, of the device.
  CudaWeightUpload(int device, std::span<const WeightSpec> specs, const WeightPlan& plan, std::byte* region);
  ~CudaWeightUpload() override;

  std::span<const WeightPart> parts() const override { return parts_; }
  void fill(std::size_t part, const std::function<void(const WeightRange&, void* dst)>& read) override;
  std::vector<Weight> finish() override;

 private:
  struct Slot {
    std::vector<std::byte> file_bytes;
    PinnedMemory<std::byte> packed;
    OwnedEvent copied;
    bool pending = false;  // `copied` was recorded
  };
  struct Target {
    std::byte* at;
    std::size_t bytes;
  };
  void add_parts(const WeightSpec& spec, std::size_t index, const WeightPlan::Place& place);
  std::size_t take_slot();
  void fill_slot(Slot& slot, std::size_t part,
                 const std::function<void(const WeightRange&, void* dst)>& read);

  const int device_;
  const std::vector<WeightSpec> specs_;
  std::byte* const region_;
  std::vector<Weight> weights_;
  std::vector<WeightPart> parts_;
  std::vector<Target> targets_;  // of the parts
  OwnedStream stream_;
  bool finished_ = false;

  std::vector<Slot> slots_;
  std::mutex mutex_;  // guards free_
  std::condition_variable freed_;
  std::vector<std::size_t> free_;
};

}  // namespace cria::cuda
