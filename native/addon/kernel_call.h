// One call of a kernel: its arguments on their way from JavaScript to the device, the function that runs, and
// its results on their way back.
#pragma once

#include <napi.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "addon/kernel_tensor.h"
#include "kernels/backend.h"
#include "kernels/elementary.h"

namespace cria {

/// A tensor of a call. Its memory is on the device once KernelCall::prepare() ran.
struct Operand {
  std::string name;
  std::shared_ptr<KernelTensor> tensor;
  bool on_host = false;           // an input to upload, or an output to download
  bool wants_f32 = false;         // prepare() converts other types
  bool is_result = false;         // returned to the caller
  bool is_unpaged_kv = false;     // keys and values on the host, before `before` writes them to pages
  bool is_callers = false;        // a tensor that the caller already holds
  bool is_weight = false;         // a product reads it packed (WeightGroup)
  bool allocated_by_run = false;  // an output on the host whose memory `run` allocates

  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(tensor->memory.data);
  }
  float* f32() const { return as<float>(); }
  /// The tensor as a matrix: its last dimension is the columns, the others are the rows.
  Weight weight() const;
};

/// The weight matrices of one op. KernelCall::prepare() packs them for the device.
struct WeightGroup {
  std::vector<Operand*> operands;
  bool gate_and_up = false;  // the gate and up matrices of a SwiGLU, which a backend may fuse
  PackedWeights packed;
  const Weight& operator[](std::size_t i) const { return packed.weights[i]; }
};

/// Runs a function and adds its time to the call's.
using Timed = std::function<void(const std::function<void()>&)>;

class KernelCall {
 public:
  KernelCall(Napi::Env env, const Napi::Object& args) : env_(env), args_(args) {}
  KernelCall(const KernelCall&) = delete;

  // ---- JS thread, called by kernel_ops.cc; each throws ERR_INVALID_ARGUMENT naming the field ----

  std::int64_t integer(const char* name, std::int64_t low, std::int64_t high);
  double number(const char* name);
  bool flag(const char* name);
  std::string text(const char* name);
  DType dtype(const char* name);
  // Copies of an Int32Array, a Uint32Array and a Float32Array.
  std::vector<std::int32_t> integers(const char* name);
  std::vector<std::uint32_t> ids(const char* name, std::int64_t below);
  std::vector<float> floats(const char* name);
  bool has(const char* name) const { return !args_.Get(name).IsNull() && !args_.Get(name).IsUndefined(); }
  const Napi::Object& args() const { return args_; }

  /// A tensor that the kernel reads as float32; prepare() converts other types.
  Operand& input(const char* name, std::int64_t elements);
  /// A tensor that the kernel reads in its own type; -1 for `rows` or `cols` accepts any number.
  Operand& matrix(const char* name, std::int64_t rows, std::int64_t cols);
  /// Unless `may_alias`, the output must not be one of the operands before it.
  Operand& output(const char* name, DType dtype, std::int64_t elements, bool may_alias = false);
  /// A float32 tensor that the kernel changes in place.
  Operand& in_out(const char* name, std::int64_t elements);
  /// A group of operands returned by matrix(), in the order in which the op reads them.
  WeightGroup& weights(std::initializer_list<Operand*> matrices, bool gate_and_up = false);
  /// Constructs an object that lives as long as the call.
  template <class T, class... Args>
  T* keep(Args&&... args) {
    auto kept = std::make_shared<T>(std::forward<Args>(args)...);
    kept_.push_back(kept);
    return kept.get();
  }
  /// A KV cache; its shape is in tensor->shape. With `or_host` also { k, v, dtype, shape } on the host, which
  /// `before` writes to pages.
  Operand& kv_cache(const char* name, bool or_host = false);

  // ---- kernel thread ----

  /// Uploads the inputs and allocates the outputs.
  void prepare(Backend& backend);
  /// Runs the kernel once, any number of times after prepare(). Returns microseconds on the device.
  double measure(Backend& backend);
  /// Downloads the outputs that belong on the host.
  void finish(Backend& backend);

  /// The last step of prepare().
  std::function<void(Backend&)> before;
  /// The kernel; all of it is timed.
  std::function<void(Backend&)> run;
  /// The kernel where only parts of it are timed; takes the place of `run`.
  std::function<void(Backend&, const Timed&)> run_timed;

  // ---- JS thread again ----

  /// NativeKernelOutput[] of lib/kernels/native.ts.
  Napi::Array results(Napi::Env env) const;

  // Results that are not tensors.
  std::vector<std::uint32_t> found_ids;
  std::vector<float> found_floats;

 private:
  Operand& add(const char* name, std::shared_ptr<KernelTensor> tensor);
  Operand& source(const char* name);
  void pack(Backend& backend, WeightGroup& group);

  Napi::Env env_;
  Napi::Object args_;  // valid while parse_kernel() runs
  std::deque<Operand> operands_;
  std::deque<WeightGroup> weights_;
  std::vector<std::shared_ptr<void>> kept_;
};

/// Reads the arguments of an op of NativeKernels.run() and sets `run` or `run_timed`. Throws
/// ERR_INVALID_ARGUMENT for an unknown name.
void parse_kernel(const std::string& op, KernelCall& call);

/// The KV pages of an operand.
KvLayer kv_layer(const Operand& kv);
/// The heads of an operand's KV pages, with `n_heads` query heads.
AttentionShape kv_shape(const Operand& kv, std::int32_t n_heads);
/// A KV cache; its KernelTensor::shape is [2, pages, kv heads, page tokens, head_dim].
std::shared_ptr<KernelTensor> make_kv(Backend& backend, DType dtype, std::int64_t pages,
                                      std::int32_t kv_heads, std::int32_t head_dim);

}  // namespace cria
