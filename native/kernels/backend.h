// A device that holds weights, a KV cache and activations, and runs the ops of ops.h on them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "kernels/ops.h"

namespace cria {

class ElementaryOps;

enum class WeightUse {
  matrix,  // multiplied with, or rows of it are embedded
  vector,  // a norm: f32
  gate,    // a matrix whose `up`, of the same shape, is the next weight
  up,
};

/// Where a weight's bytes lie before the upload.
struct WeightSpec {
  DType dtype;
  std::int64_t rows, cols;
  WeightUse use = WeightUse::matrix;
  std::int32_t layer = -1;  // -1: of none
};

struct BackendOptions {
  std::string device = "auto";  // "auto", "cpu", "cuda", "cuda:N"
  int threads = 0;              // 0: usable_cores()
  std::string isa;              // CPU: the instruction-set level; empty: CRIA_CPU_ISA, or the best there is
  // So many of the last layers on the CUDA device, the rest on the CPU; with all of them the embedding and
  // the output too. -1: all when the model fits the device, else as many layers as do.
  std::int32_t gpu_layers = -1;
  // What that and "auto" are decided by.
  std::int32_t n_layers = 0;        // 0: not a model; a device is taken as it is
  std::vector<WeightSpec> weights;  // of the model
  std::uint64_t kv_bytes = 0;       // room for the KV cache, of all layers together
  bool adopts_weights = false;      // weights are to be used where they lie (adopt_weights)
  std::string not_cuda;             // why it must not be a CUDA device; empty: it may
};

struct BackendInfo {
  std::string device;         // "cpu", "cuda:0"
  std::string device_reason;  // why it was chosen, one sentence
  std::string isa;            // "avx512_bf16", "sm_90", ...
  int threads;
  std::int32_t page_tokens;       // tokens of a KV page
  std::string kv_layout;          // names the order inside a page; changes when that does
  std::int32_t max_batch_tokens;  // the largest Batch::n_tokens that it takes
  std::int32_t prefill_chunk;     // tokens of prompts in a step, unless the caller says otherwise
  std::int32_t gpu_layers = 0;    // of the model's layers, those on a CUDA device
  std::string name = {};          // of the device, as its maker calls it; empty for the CPU
};

/// Bytes offset .. offset + bytes of weight `index` in the file's layout.
struct WeightRange {
  std::size_t index = 0, offset = 0, bytes = 0;
};

/// What is brought to the backend at a time: one range, or two whose rows belong together.
struct WeightPart {
  std::array<WeightRange, 2> ranges;
  std::size_t n_ranges = 1;
  std::size_t bytes() const { return ranges[0].bytes + (n_ranges > 1 ? ranges[1].bytes : 0); }
};

/// Weights being uploaded. fill() may be called from several threads at once.
class WeightUpload {
 public:
  virtual ~WeightUpload() = default;
  /// The weights' bytes, each once, in parts of some MiB.
  virtual std::span<const WeightPart> parts() const = 0;
  /// Lets `read(range, dst)` write each range of parts()[part].
  virtual void fill(std::size_t part, const std::function<void(const WeightRange&, void* dst)>& read) = 0;
  /// The weights in the order of their specs; called once, when all is filled.
  virtual std::vector<Weight> finish() = 0;
};

/// Room that passes need.
struct PassLimits {
  AttentionShape shape;
  DType kv_dtype = DType::f16;
  std::int32_t max_tokens = 0;     // of a pass
  std::int32_t max_sequences = 0;  // of a pass; as many rows of logits
  std::int32_t max_pages = 0;      // of a sequence
  std::int64_t vocab = 0;
  // Of weights that did not come by upload_weights(): columns, and rows of an `up`.
  std::int64_t matrix_cols = 0, up_rows = 0;
  friend bool operator==(const PassLimits&, const PassLimits&) = default;
};

/// One forward pass. All arrays are on the host, and stay as they are until it ends.
struct Pass {
  const Batch* batch;
  const std::int32_t* logit_rows;  // [n_logit_rows] tokens that get logits, ascending
  std::int32_t n_logit_rows;
};

class Backend : public Ops {
 public:
  virtual const BackendInfo& info() const = 0;
  /// Bytes that weights, cache and activations may still take.
  virtual std::size_t free_memory() const = 0;

  /// Bytes that these weights take here.
  virtual std::uint64_t weight_bytes(std::span<const WeightSpec> specs) const = 0;

  /// Weights live as long as the backend. Throws ERR_OUT_OF_MEMORY.
  virtual std::unique_ptr<WeightUpload> upload_weights(std::span<const WeightSpec> specs) = 0;

  /// The same for weights that lie in host memory already (a mapped file), which `owner` keeps alive: used in
  /// place. Throws ERR_UNSUPPORTED_DEVICE on a backend that has memory of its own.
  virtual std::vector<Weight> adopt_weights(std::span<const WeightSpec> specs,
                                            std::span<const void* const> data,
                                            std::shared_ptr<const void> owner) = 0;

  /// Bytes of one page of one layer, as read_kv_page gives them.
  virtual std::size_t kv_page_bytes(const AttentionShape& shape, DType kv_dtype) const = 0;
  /// A pool of pages for all layers, zero-filled; one KvLayer for each layer. Throws ERR_OUT_OF_MEMORY.
  virtual std::vector<KvLayer> allocate_kv(const AttentionShape& shape, DType kv_dtype, std::int32_t n_layers,
                                           std::int32_t n_pages) = 0;

  /// Copies page `from` to page `to`, in every layer.
  virtual void copy_kv_page(std::span<const KvLayer> layers, std::int32_t from, std::int32_t to) = 0;
  /// One page of one layer as bytes, in the backend's own layout (BackendInfo::kv_layout), to and from the
  /// host. What the page holds beyond its first `n_tokens` positions, of other sequences, reads as zeros.
  virtual void read_kv_page(const AttentionShape& shape, const KvLayer& layer, std::int32_t page,
                            std::int32_t n_tokens, std::byte* to) = 0;
  virtual void write_kv_page(const KvLayer& layer, std::int32_t page, const std::byte* from) = 0;

  /// Float32 activations, zero-filled; they live as long as the backend.
  virtual float* allocate_activations(std::size_t n) = 0;

  /// The values on the host: valid until the next op.
  virtual const float* fetch(const float* values, std::size_t n) = 0;
  /// The way back.
  virtual void store(float* values, const float* from, std::size_t n) = 0;

  /// After the weights are there and before the first pass; again where passes are to be larger, or of
  /// another shape. Throws ERR_OUT_OF_MEMORY, and ERR_UNSUPPORTED_MODEL for a shape that the backend does not
  /// take.
  virtual void prepare_passes(const PassLimits&) {}
  /// Around the ops of a pass (embed to logits). A backend may record the ops of one pass and repeat them:
  /// then begin_pass returns false, the ops are not to be called, and end_pass runs them. For that, all
  /// passes whose tokens, sequences and rows of logits are as many must be the same calls with the same
  /// pointers. After end_pass all results are there. cancel_pass ends a pass in its middle.
  virtual bool begin_pass(const Pass&) { return true; }
  virtual void end_pass() {}
  virtual void cancel_pass() noexcept {}

  /// Draws tokens on the device, after a pass. False where that is the host's work: fetch() the logits.
  virtual bool draw(const DrawArgs&) { return false; }

  /// The pieces of the ops (elementary.h).
  virtual ElementaryOps& elementary() = 0;
};

/// Throws ERR_UNSUPPORTED_DEVICE when the named device is not to be had ("auto" always is: BackendInfo's
/// device_reason says what it chose and why), ERR_OUT_OF_MEMORY when not one layer fits the named device, and
/// ERR_INVALID_ARGUMENT for gpu_layers that are more than the model has or contradict the device.
std::unique_ptr<Backend> create_backend(const BackendOptions& options);

}  // namespace cria
