// A device that holds weights, KV caches and activations, and runs the ops of ops.h on them.
//
// A Backend is made of parts: where weights lie (WeightStore), where keys and values lie (KvAllocator, which
// makes KvCaches), activations (Activations), the begin and end of a forward pass (Passes) and the ops (Ops).
// None is thread-safe, unless it says so. All live as long as their backend.
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
  matrix,  // of a matmul, or the embedding
  vector,  // of a norm: f32
  gate,  // a matrix; the next WeightSpec is its `up`, of the same shape: the backend may fuse them, and then
         // no adapter may change them
  up,
};

/// Type and shape of a weight in the model file.
struct WeightSpec {
  DType dtype;
  std::int64_t rows, cols;
  WeightUse use = WeightUse::matrix;
  std::int32_t layer = -1;  // -1: belongs to no layer
};

struct BackendOptions {
  // "auto", "cpu", "cuda", "cuda:N"
  std::string device = "auto";
  // 0: usable_cores()
  int threads = 0;
  // The CPU's instruction-set level. Empty: CRIA_CPU_ISA, or the best there is.
  std::string isa;
  // How many of the last layers run on the CUDA device; the rest run on the CPU. All layers: the embedding
  // and the output are on the device too. -1: all if the model fits the device, else as many as fit.
  std::int32_t gpu_layers = -1;

  // The members below describe the model, for the choices that gpu_layers = -1 and device "auto" leave open.

  // 0: there is no model, so nothing has to fit the device.
  std::int32_t n_layers = 0;
  std::vector<WeightSpec> weights;
  // Bytes of the KV cache of all layers.
  std::uint64_t kv_bytes = 0;
  // The weights will be adopted, not uploaded (WeightStore::adopt).
  bool adopts_weights = false;
  // Why "auto" must not choose a CUDA device; empty: it may.
  std::string not_cuda;
};

struct BackendInfo {
  // "cpu", "cuda:0"
  std::string device;
  // Why it was chosen, one sentence.
  std::string device_reason;
  // "avx512_bf16", "sm_90", ...
  std::string isa;
  int threads = 1;
  // Tokens of a KV page.
  std::int32_t page_tokens = 0;
  // Names the layout of a page's bytes, and changes whenever the layout does: saved pages carry it.
  std::string kv_layout;
  // The largest Batch::n_tokens that the backend takes.
  std::int32_t max_batch_tokens = 0;
  // Default number of prompt tokens in a step.
  std::int32_t prefill_chunk = 0;
  // Number of the model's layers on a CUDA device.
  std::int32_t gpu_layers = 0;
  // The vendor's name of the device; empty for the CPU.
  std::string name;
};

/// Bytes offset .. offset + bytes of weight `index` in the file's layout.
struct WeightRange {
  std::size_t index = 0, offset = 0, bytes = 0;
};

/// The unit of an upload: one range, or two whose rows are fused.
struct WeightPart {
  std::array<WeightRange, 2> ranges;
  std::size_t n_ranges = 1;
  std::size_t bytes() const { return ranges[0].bytes + (n_ranges > 1 ? ranges[1].bytes : 0); }
};

/// Weights on their way to the backend. fill() may be called from several threads at once.
class WeightUpload {
 public:
  virtual ~WeightUpload() = default;
  /// Parts of some MiB that together cover every byte of the weights exactly once.
  virtual std::span<const WeightPart> parts() const = 0;
  /// Calls `read(range, dst)` for each range of parts()[part]; `read` writes the range's bytes to dst.
  virtual void fill(std::size_t part, const std::function<void(const WeightRange&, void* dst)>& read) = 0;
  /// The weights in the order of their specs; called once, when every part is filled.
  virtual std::vector<Weight> finish() = 0;
};

/// The weights of a model in the backend's memory. They live as long as the backend.
class WeightStore {
 public:
  virtual ~WeightStore() = default;
  /// Bytes that these weights take in the backend's memory, in its layout.
  virtual std::uint64_t bytes(std::span<const WeightSpec> specs) const = 0;
  /// Throws ERR_OUT_OF_MEMORY.
  virtual std::unique_ptr<WeightUpload> upload(std::span<const WeightSpec> specs) = 0;
  /// Weights that already lie in host memory (a mapped file), which `owner` keeps alive, are used in place.
  /// Throws ERR_UNSUPPORTED_DEVICE on a backend that has memory of its own.
  virtual std::vector<Weight> adopt(std::span<const WeightSpec> specs, std::span<const void* const> data,
                                    std::shared_ptr<const void> owner) = 0;
};

/// A paged KV cache: a pool of pages for all layers, zero-filled. A page holds the keys and values of
/// BackendInfo::page_tokens positions of one sequence. Must be destroyed before its backend.
class KvCache {
 public:
  virtual ~KvCache() = default;
  /// By layer: the `kv` argument of its ops.
  virtual std::span<const KvLayer> layers() const = 0;
  /// Bytes of a page of all layers together, as read_page() gives them.
  virtual std::size_t page_bytes() const = 0;
  /// Copies page `from` to page `to` in every layer.
  virtual void copy_page(std::int32_t from, std::int32_t to) = 0;
  /// A page as bytes on the host, [n_layers][bytes of a layer], in the backend's own layout
  /// (BackendInfo::kv_layout). Slots from `n_tokens` on may hold another sequence's data: they read as zeros.
  virtual void read_page(std::int32_t page, std::int32_t n_tokens, std::byte* to) const = 0;
  virtual void write_page(std::int32_t page, const std::byte* from) = 0;
};

struct KvCacheSpec {
  AttentionShape shape;
  DType dtype = DType::f16;
  std::int32_t n_layers = 0;
  std::int32_t n_pages = 0;
};

/// Allocates KV caches.
class KvAllocator {
 public:
  virtual ~KvAllocator() = default;
  /// Bytes of one page of one layer.
  virtual std::size_t page_bytes(const AttentionShape& shape, DType dtype) const = 0;
  /// Throws ERR_OUT_OF_MEMORY.
  virtual std::unique_ptr<KvCache> create(const KvCacheSpec& spec) = 0;
};

/// Float32 buffers in the backend's memory.
class Activations {
 public:
  virtual ~Activations() = default;
  /// Zero-filled; lives as long as the backend. Throws ERR_OUT_OF_MEMORY.
  virtual float* allocate(std::size_t n) = 0;
  /// The n values in host memory, copied there if need be; valid until the next op.
  virtual const float* fetch(const float* values, std::size_t n) = 0;
  /// Copies n values from the host.
  virtual void store(float* values, const float* from, std::size_t n) = 0;
};

/// Upper bounds of all passes until the next prepare().
struct PassLimits {
  AttentionShape shape;
  DType kv_dtype = DType::f16;
  std::int32_t max_tokens = 0;     // of a pass
  std::int32_t max_sequences = 0;  // of a pass; also its rows of logits
  std::int32_t max_pages = 0;      // of a sequence
  std::int64_t vocab = 0;
  // Largest columns, and largest rows of an `up`, of weights that did not come from the WeightStore.
  std::int64_t matrix_cols = 0, up_rows = 0;
  ExpertShape experts{};
  friend bool operator==(const PassLimits&, const PassLimits&) = default;
};

/// One forward pass. All arrays are on the host and stay unchanged until it ends.
struct Pass {
  const Batch* batch;
  const std::int32_t* logit_rows;  // [n_logit_rows] tokens that get logits, ascending
  std::int32_t n_logit_rows;
  // Some ops of the pass get adapters: it is neither recorded nor replayed.
  bool has_adapters = false;
};

/// Begin and end of a forward pass, around its ops from embed() to logits().
class Passes {
 public:
  virtual ~Passes() = default;
  /// Called when the weights are uploaded and before the first pass; again when passes grow or change shape.
  /// Throws ERR_OUT_OF_MEMORY, and ERR_UNSUPPORTED_MODEL for a shape that the backend does not support.
  virtual void prepare(const PassLimits& limits) = 0;
  /// True: the caller now calls the ops. A backend may instead replay a recorded pass (a CUDA graph): then
  /// begin() returns false, the caller must not call the ops, and end() runs them. So all passes with the
  /// same numbers of tokens, sequences and logit rows must make the same calls with the same pointers.
  virtual bool begin(const Pass& pass) = 0;
  /// Returns when all results of the pass are complete.
  virtual void end() = 0;
  /// Abandons a pass, instead of end(); its results are undefined. Does nothing when no pass is running.
  virtual void cancel() noexcept = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const BackendInfo& info() const = 0;
  /// Bytes still free for weights, caches and activations.
  virtual std::size_t free_memory() const = 0;

  virtual WeightStore& weights() = 0;
  virtual KvAllocator& kv() = 0;
  virtual Activations& activations() = 0;
  virtual Passes& passes() = 0;
  virtual Ops& ops() = 0;
  /// The ops' kernels one by one, not fused (elementary.h).
  virtual ElementaryOps& elementary() = 0;
};

/// Throws ERR_UNSUPPORTED_DEVICE when the named device is not available ("auto" always is:
/// BackendInfo::device_reason says what it chose and why), ERR_OUT_OF_MEMORY when not one layer fits the
/// named device, and ERR_INVALID_ARGUMENT for a gpu_layers that exceeds the model's layers or contradicts the
/// device.
std::unique_ptr<Backend> create_backend(const BackendOptions& options);

}  // namespace cria
