#include "addon/kernel_tensor.h"

#include <utility>

#include "addon/convert.h"
#include "addon/environment.h"
#include "addon/errors.h"
#include "core/error.h"

namespace cria {

using TensorPointer = std::shared_ptr<KernelTensor>;

std::int64_t KernelTensor::elements() const {
  std::int64_t n = 1;
  for (const std::int64_t size : shape) n *= size;
  return n;
}

std::size_t tensor_bytes(DType dtype, const std::vector<std::int64_t>& shape, const std::string& name) {
  constexpr std::int64_t kMax = std::int64_t{1} << 46;
  std::int64_t n = 1;
  for (const std::int64_t size : shape) {
    if (size < 0 || (size > 0 && n > kMax / size)) throw_argument(name, "a shape of at most 2^46 elements");
    n *= size;
  }
  const std::int64_t block = traits_of(dtype).block_size, cols = shape.empty() ? 1 : shape.back();
  if (cols % block != 0)
    throw Error(ErrorCode::invalid_argument,
                name + ": expected a last dimension that is a multiple of " + std::to_string(block) +
                    " for " + std::string(name_of(dtype)) + ", found " + std::to_string(cols),
                {{"expected", block}, {"found", cols}});
  return row_bytes(dtype, static_cast<std::size_t>(n));
}

Napi::Function JsTensor::define(Napi::Env env) {
  return DefineClass(
      env, "NativeTensor",
      {InstanceAccessor<&JsTensor::dtype>("dtype"), InstanceAccessor<&JsTensor::shape>("shape"),
       InstanceAccessor<&JsTensor::device>("device"), InstanceAccessor<&JsTensor::bytes>("bytes"),
       InstanceAccessor<&JsTensor::disposed>("disposed"), InstanceMethod<&JsTensor::dispose>("dispose")});
}

Napi::Object JsTensor::create(Napi::Env env, TensorPointer tensor) {
  return Environment::of(env)->tensor_class.New({Napi::External<TensorPointer>::New(env, &tensor)});
}

TensorPointer JsTensor::of(Napi::Env env, const Napi::Value& value, const std::string& name) {
  if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(Environment::of(env)->tensor_class.Value()))
    return nullptr;
  const JsTensor* tensor = Unwrap(value.As<Napi::Object>());
  if (tensor->disposed_)
    throw Error(ErrorCode::disposed, name + ": the tensor was disposed", {{"name", name}});
  return tensor->tensor_;
}

JsTensor::JsTensor(const Napi::CallbackInfo& info) : Napi::ObjectWrap<JsTensor>(info) {
  guarded(info.Env(), [&] {
    if (!info[0].IsExternal())
      throw_argument("NativeTensor", "a tensor made by cria/kernels, e.g. by upload()");
    tensor_ = *info[0].As<Napi::External<TensorPointer>>().Data();
    // Tells the garbage collector how much memory the object holds.
    Napi::MemoryManagement::AdjustExternalMemory(info.Env(),
                                                 static_cast<std::int64_t>(tensor_->memory.bytes));
  });
}

JsTensor::~JsTensor() {
  if (tensor_ && !disposed_) drop();
}

// Replaces the tensor by its description. Calls in progress keep the memory until they end.
void JsTensor::drop() {
  disposed_ = true;
  Napi::MemoryManagement::AdjustExternalMemory(Env(), -static_cast<std::int64_t>(tensor_->memory.bytes));
  auto description = std::make_shared<KernelTensor>();
  description->device = tensor_->device;
  description->dtype = tensor_->dtype;
  description->shape = tensor_->shape;
  description->memory.bytes = tensor_->memory.bytes;
  description->kv_page_bytes = tensor_->kv_page_bytes;
  tensor_ = std::move(description);
}

Napi::Value JsTensor::dtype(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), std::string(name_of(tensor_->dtype)));
}
Napi::Value JsTensor::shape(const Napi::CallbackInfo& info) {
  Napi::Array array = Napi::Array::New(info.Env(), tensor_->shape.size());
  for (std::uint32_t i = 0; i < array.Length(); i++)
    array.Set(i, Napi::Number::New(info.Env(), static_cast<double>(tensor_->shape[i])));
  return array;
}
Napi::Value JsTensor::device(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), tensor_->device);
}
Napi::Value JsTensor::bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(tensor_->memory.bytes));
}
Napi::Value JsTensor::disposed(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), disposed_);
}
Napi::Value JsTensor::dispose(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    if (!disposed_) drop();
    return info.Env().Undefined();
  });
}

}  // namespace cria
