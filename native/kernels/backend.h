// A device that holds weights, a KV cache and activations, and runs the ops of ops.h on them.
#pragma once

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

struct BackendOptions {
  std::string device = "auto";  // "auto", "cpu", "cuda", "cuda:N"
  int threads = 0;              // 0: usable_cores()
  std::string isa;              // CPU: the instruction-set level; empty: CRIA_CPU_ISA, or the best there is
};

struct BackendInfo {
  std::string device;         // "cpu"
  std::string device_reason;  // why it was chosen, one sentence
  std::string isa;            // "avx512_bf16", ...
  int threads;
  std::int32_t page_tokens;       // tokens of a KV page
  std::string kv_layout;          // names the order inside a page; changes when that does
  std::int32_t max_batch_tokens;  // the largest Batch::n_tokens that it takes
};

/// Where a weight's bytes lie before the upload.
struct WeightSpec {
  DType dtype;
  std::int64_t rows, cols;
};

/// Weights being uploaded. fill() may be called from several threads at once.
class WeightUpload {
 public:
  virtual ~WeightUpload() = default;
  /// Lets `read(dst)` write `bytes` bytes of weight `index`, from byte `offset` of the file's layout.
  virtual void fill(std::size_t index, std::size_t offset, std::size_t bytes,
                    const std::function<void(void* dst)>& read) = 0;
  /// The weights in the order of their specs; called once, when all is filled.
  virtual std::vector<Weight> finish() = 0;
};

class Backend : public Ops {
 public:
  virtual const BackendInfo& info() const = 0;

  /// Weights live as long as the backend. Throws ERR_OUT_OF_MEMORY.
  virtual std::unique_ptr<WeightUpload> upload_weights(std::span<const WeightSpec> specs) = 0;

  /// The same for weights that lie in host memory already (a mapped file), which `owner` keeps alive: used in
  /// place. Throws ERR_UNSUPPORTED_DEVICE on a backend that has memory of its own.
  virtual std::vector<Weight> adopt_weights(std::span<const WeightSpec> specs,
                                            std::span<const void* const> data,
                                            std::shared_ptr<const void> owner) = 0;

  /// Bytes of one page of one layer.
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

  /// The pieces of the ops (elementary.h). Throws ERR_UNSUPPORTED_DEVICE where the device does not give them.
  virtual ElementaryOps& elementary();
};

/// Throws ERR_UNSUPPORTED_DEVICE when the named device is not to be had ("auto" always is).
std::unique_ptr<Backend> create_backend(const BackendOptions& options);

}  // namespace cria
