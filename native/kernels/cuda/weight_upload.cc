#include "kernels/cuda/weight_upload.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "kernels/cuda/matmul.h"

namespace cria::cuda {
namespace {

constexpr std::size_t kPartBytes = std::size_t{8} << 20;  // of the file and packed, at most, if a tile allows
constexpr std::size_t kSlots = 4;                         // parts under way: one for each reading thread
constexpr std::size_t kAlignment = 256;

std::size_t rounded_up(std::size_t n, std::size_t to) { return (n + to - 1) / to * to; }

std::size_t row_bytes_of(const WeightSpec& s) { return row_bytes(s.dtype, static_cast<std::size_t>(s.cols)); }

bool same_shape(const WeightSpec& a, const WeightSpec& b) {
  return a.dtype == b.dtype && a.rows == b.rows && a.cols == b.cols;
}

}  // namespace

WeightPlan::WeightPlan(std::span<const WeightSpec> specs) : places(specs.size()) {
  for (std::size_t i = 0; i < specs.size(); i++) {
    const WeightSpec& s = specs[i];
    if (places[i].comes_with_gate) continue;
    // packed_bytes() is a multiple of 16, and matrices need no more than that.
    const bool continues = i > 0 && s.use == WeightUse::matrix && specs[i - 1].use == WeightUse::matrix &&
                           specs[i - 1].dtype == s.dtype && specs[i - 1].cols == s.cols &&
                           specs[i - 1].rows % kTileRows == 0;
    if (!continues) bytes = rounded_up(bytes, kAlignment);
    places[i] = {.offset = bytes, .layout = continues ? kContinuesPrevious : kSeparate};
    if (s.use == WeightUse::vector) {
      if (s.dtype != DType::f32)
        throw Error(ErrorCode::unsupported_model,
                    "a norm's weights are " + std::string(name_of(s.dtype)) + ", expected F32");
      bytes += static_cast<std::size_t>(s.rows * s.cols) * sizeof(float);
    } else if (s.use == WeightUse::gate && i + 1 < specs.size() && specs[i + 1].use == WeightUse::up &&
               same_shape(s, specs[i + 1])) {
      places[i].layout = kFusedGateUp;
      places[i + 1] = {.offset = bytes, .layout = kFusedGateUp, .comes_with_gate = true};
      bytes += packed_gate_up_bytes(s.dtype, s.rows, s.cols);
    } else {
      bytes += packed_bytes(s.dtype, s.rows, s.cols);
    }
  }
}

CudaWeightUpload::CudaWeightUpload(int device, std::span<const WeightSpec> specs, const WeightPlan& plan,
                                   std::byte* region)
    : device_(device), specs_(specs.begin(), specs.end()), region_(region), stream_(create_stream()) {
  for (std::size_t i = 0; i < specs.size(); i++) {
    const WeightPlan::Place& place = plan.places[i];
    weights_.push_back({.data = region + place.offset,
                        .dtype = specs[i].dtype,
                        .rows = specs[i].rows,
                        .cols = specs[i].cols,
                        .layout = place.layout});
    if (!place.comes_with_gate) add_parts(specs[i], i, place);
  }
  std::size_t max_packed = 0, max_read = 0;
  for (std::size_t i = 0; i < parts_.size(); i++) {
    max_packed = std::max(max_packed, targets_[i].bytes);
    max_read = std::max(max_read, parts_[i].bytes() + kAlignment);
  }
  slots_.resize(std::min(kSlots, parts_.size()));
  for (std::size_t i = 0; i < slots_.size(); i++) {
    slots_[i].file_bytes.resize(max_read);
    slots_[i].packed = allocate_pinned_array<std::byte>(max_packed, "staging weights");
    slots_[i].copied.reset(create_event());
    free_.push_back(i);
  }
}

CudaWeightUpload::~CudaWeightUpload() {
  if (finished_) return;
  try {  // copies from the slots must have ended
    set_device(device_);
    synchronize(stream_.get());
  } catch (...) {
  }
}

/// Whole tiles, so that a part is repacked by itself.
void CudaWeightUpload::add_parts(const WeightSpec& s, std::size_t index, const WeightPlan::Place& place) {
  std::byte* const at = region_ + place.offset;
  const std::size_t row = row_bytes_of(s);
  if (s.use == WeightUse::vector) {
    const std::size_t bytes = row * static_cast<std::size_t>(s.rows);
    parts_.push_back({{WeightRange{index, 0, bytes}}, 1});
    targets_.push_back({at, bytes});
    return;
  }
  const bool fused = place.layout == kFusedGateUp;
  const auto packed = [&](std::int64_t rows) {
    return fused ? packed_gate_up_bytes(s.dtype, rows, s.cols) : packed_bytes(s.dtype, rows, s.cols);
  };
  const std::size_t tile = std::max(packed(kTileRows), row * static_cast<std::size_t>(kTileRows) * 2);
  const std::int64_t step =
      kTileRows * std::max<std::int64_t>(1, static_cast<std::int64_t>(kPartBytes / tile));
  for (std::int64_t first = 0; first < s.rows; first += step) {
    const std::int64_t rows = std::min(step, s.rows - first);
    const std::size_t offset = static_cast<std::size_t>(first) * row,
                      bytes = static_cast<std::size_t>(rows) * row;
    if (fused)
      parts_.push_back({{WeightRange{index, offset, bytes}, WeightRange{index + 1, offset, bytes}}, 2});
    else
      parts_.push_back({{WeightRange{index, offset, bytes}}, 1});
    targets_.push_back({at + (first > 0 ? packed(first) : 0), packed(rows)});
  }
}

std::size_t CudaWeightUpload::take_slot() {
  std::unique_lock lock(mutex_);
  freed_.wait(lock, [&] { return !free_.empty(); });
  const std::size_t slot = free_.back();
  free_.pop_back();
  return slot;
}

void CudaWeightUpload::fill(std::size_t part,
                            const std::function<void(const WeightRange&, void* dst)>& read) {
  const std::size_t slot = take_slot();
  const auto give_back = [&] {
    const std::lock_guard lock(mutex_);
    free_.push_back(slot);
    freed_.notify_one();
  };
  try {
    fill_slot(slots_[slot], part, read);
  } catch (...) {
    give_back();
    throw;
  }
  give_back();
}

void CudaWeightUpload::fill_slot(Slot& slot, std::size_t part,
                                 const std::function<void(const WeightRange&, void* dst)>& read) {
  const WeightPart& from = parts_[part];
  const Target& to = targets_[part];
  const WeightSpec& s = specs_[from.ranges[0].index];
  const std::int64_t rows = static_cast<std::int64_t>(from.ranges[0].bytes / row_bytes_of(s));
  std::byte* const first = slot.file_bytes.data();
  std::byte* const second = first + rounded_up(from.ranges[0].bytes, kAlignment);
  read(from.ranges[0], first);
  if (from.n_ranges > 1) read(from.ranges[1], second);

  set_device(device_);  // of this thread
  if (std::exchange(slot.pending, false)) synchronize(slot.copied.get());
  if (s.use == WeightUse::vector)
    std::copy_n(first, to.bytes, slot.packed.get());
  else if (from.n_ranges > 1)
    repack_gate_up(s.dtype, s.cols, first, second, rows, slot.packed.get());
  else
    repack_rows(s.dtype, s.cols, first, rows, slot.packed.get());
  copy_to_device(to.at, slot.packed.get(), to.bytes, stream_.get());
  record(slot.copied.get(), stream_.get());
  slot.pending = true;
}

std::vector<Weight> CudaWeightUpload::finish() {
  set_device(device_);
  synchronize(stream_.get());
  finished_ = true;
  return std::move(weights_);
}

}  // namespace cria::cuda
