// One call of a kernel: its arguments brought from JavaScript to the device, what runs, and its results on
// the way back.
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
  bool on_host = false;    // inputs: to be brought to the device; outputs: to be brought back
  bool wants_f32 = false;  // converted where it is stored otherwise
  bool is_result = false;
  bool is_kv_to_be = false;  // keys and values of the host, before they are in pages
  bool is_callers = false;   // a tensor that the caller holds already
  bool is_weight = false;    // a product reads it packed (WeightGroup)
  bool made_by_run = false;  // an output of the host whose memory is what `run` makes

  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(tensor->memory.data);
  }
  float* f32() const { return as<float>(); }
  /// As a matrix; its rows are all but the last dimension.
  Weight weight() const;
};

/// Matrices that one op multiplies with. Theirs as the device reads them: once KernelCall::prepare() ran.
struct WeightGroup {
  std::vector<Operand*> operands;
  bool gate_and_up = false;  // two that the backend may fuse
  PackedWeights packed;
  const Weight& operator[](std::size_t i) const { return packed.weights[i]; }
};

/// Runs what it is given, and counts its time.
using Timed = std::function<void(const std::function<void()>&)>;

class KernelCall {
 public:
  KernelCall(Napi::Env env, const Napi::Object& args) : env_(env), args_(args) {}
  KernelCall(const KernelCall&) = delete;

  // ---- on the JS thread, by kernel_ops.cc; each throws ERR_INVALID_ARGUMENT naming the field ----

  std::int64_t integer(const char* name, std::int64_t low, std::int64_t high);
  double number(const char* name);
  bool flag(const char* name);
  std::string text(const char* name);
  DType dtype(const char* name);
  /// A copy of an Int32Array, Uint32Array or Float32Array.
  std::vector<std::int32_t> integers(const char* name);
  std::vector<std::uint32_t> ids(const char* name, std::int64_t below);
  std::vector<float> floats(const char* name);
  bool has(const char* name) const { return !args_.Get(name).IsNull() && !args_.Get(name).IsUndefined(); }
  const Napi::Object& args() const { return args_; }

  /// float32 values, or what is converted to them.
  Operand& input(const char* name, std::int64_t elements);
  /// In its own type; `rows` or `cols` -1: any.
  Operand& matrix(const char* name, std::int64_t rows, std::int64_t cols);
  Operand& output(const char* name, DType dtype, std::int64_t elements, bool may_alias = false);
  /// float32 that is changed in place: a result too.
  Operand& in_out(const char* name, std::int64_t elements);
  /// Of what matrix() gave, in the order in which the op reads them.
  WeightGroup& weights(std::initializer_list<Operand*> matrices, bool gate_and_up = false);
  /// Anything else that has to live as long as the call.
  template <class T, class... Args>
  T* keep(Args&&... args) {
    auto kept = std::make_shared<T>(std::forward<Args>(args)...);
    kept_.push_back(kept);
    return kept.get();
  }
  /// A KV cache; its shape is in tensor->shape. `or_host`: also { k, v, dtype, shape }, which `before` puts
  /// into pages.
  Operand& kv_cache(const char* name, bool or_host = false);

  // ---- on the kernels' thread ----

  /// Inputs to the device, room for the outputs.
  void prepare(Backend& backend);
  /// Runs the kernel, perhaps not for the first time; microseconds on the device.
  double measure(Backend& backend);
  /// Outputs of the host back to it.
  void finish(Backend& backend);

  std::function<void(Backend&)> before;                   // the last step of prepare()
  std::function<void(Backend&)> run;                      // what is measured
  std::function<void(Backend&, const Timed&)> run_timed;  // instead, where not all that it does is measured

  // ---- on the JS thread again ----

  /// NativeKernelOutput[] of lib/kernels/native.ts.
  Napi::Array results(Napi::Env env) const;

  std::vector<std::uint32_t> found_ids;  // results that are no tensors
  std::vector<float> found_floats;

 private:
  Operand& add(const char* name, std::shared_ptr<KernelTensor> tensor);
  Operand& source(const char* name);
  void pack(Backend& backend, WeightGroup& group);

  Napi::Env env_;
  Napi::Object args_;  // valid while the call is parsed
  std::deque<Operand> operands_;
  std::deque<WeightGroup> weights_;
  std::vector<std::shared_ptr<void>> kept_;
};

/// An op of NativeKernels.run(): reads its arguments and sets `run`. Throws ERR_INVALID_ARGUMENT for an
/// unknown name.
void parse_kernel(const std::string& op, KernelCall& call);

/// The KV pages behind an operand, and the shape that goes with them.
KvLayer kv_layer(const Operand& kv);
AttentionShape kv_shape(const Operand& kv, std::int32_t n_heads);
/// As kept in KernelTensor::shape: [2, pages, kv heads, page tokens, head_dim].
std::shared_ptr<KernelTensor> make_kv(Backend& backend, DType dtype, std::int64_t pages,
                                      std::int32_t kv_heads, std::int32_t head_dim);

}  // namespace cria
