// NativeTensor of lib/kernels/native.ts: device memory held by a script.
#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "kernels/elementary.h"

namespace cria {

struct KernelTensor;

/// Matrices packed together for the products of a device (ElementaryOps::pack_weights).
struct PackedGroup {
  /// Each matrix, and its KernelTensor::writes when it was packed: later writes are not in the packed copy.
  std::vector<std::pair<std::weak_ptr<KernelTensor>, std::uint64_t>> of;
  PackedWeights packed;
};

struct KernelTensor {
  std::string device;  // "cpu", "cuda:0"
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;  // of a KV cache: [2, pages, kv heads, page tokens, head_dim]
  TensorMemory memory;
  std::size_t kv_page_bytes = 0;  // of a KV cache, in the device's layout; 0: a plain tensor

  // Only the kernel thread uses these.
  std::uint64_t writes = 0;         // how often kernels wrote it while a script held it
  std::vector<PackedGroup> packed;  // groups whose first matrix it is

  bool is_kv() const { return kv_page_bytes > 0; }
  std::int64_t elements() const;
};

/// Bytes of a plain tensor. Throws ERR_INVALID_ARGUMENT when its last dimension is not a multiple of the
/// block size.
std::size_t tensor_bytes(DType dtype, const std::vector<std::int64_t>& shape, const std::string& name);

class JsTensor : public Napi::ObjectWrap<JsTensor> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object create(Napi::Env env, std::shared_ptr<KernelTensor> tensor);
  /// The tensor of a JavaScript value, or null where the value is not a NativeTensor. Throws ERR_DISPOSED.
  static std::shared_ptr<KernelTensor> of(Napi::Env env, const Napi::Value& value, const std::string& name);

  explicit JsTensor(const Napi::CallbackInfo& info);
  ~JsTensor() override;

 private:
  Napi::Value dtype(const Napi::CallbackInfo& info);
  Napi::Value shape(const Napi::CallbackInfo& info);
  Napi::Value device(const Napi::CallbackInfo& info);
  Napi::Value bytes(const Napi::CallbackInfo& info);
  Napi::Value disposed(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);
  void drop();

  std::shared_ptr<KernelTensor> tensor_;  // without its memory after dispose()
  bool disposed_ = false;
};

}  // namespace cria
