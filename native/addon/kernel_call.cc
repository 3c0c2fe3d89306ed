#include "addon/kernel_call.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "addon/convert.h"
#include "core/error.h"

namespace cria {
namespace {

DType dtype_named(const std::string& name, const std::string& field) {
  for (std::uint32_t id = 0; id < 64; id++)
    if (const DTypeTraits* t = find_dtype(id); t && t->name == name) return t->dtype;
  throw Error(ErrorCode::invalid_argument, field + ": expected the name of a data type, found '" + name + "'",
              {{"name", field}, {"found", name}});
}

void check_elements(const std::string& name, std::int64_t expected, std::int64_t found) {
  if (expected == found) return;
  throw Error(ErrorCode::invalid_argument,
              name + ": expected " + std::to_string(expected) + " elements, found " + std::to_string(found),
              {{"name", name}, {"expected", expected}, {"found", found}});
}

std::vector<std::int64_t> as_shape(const Napi::Value& value, const std::string& name) {
  if (!value.IsArray()) throw_argument(name, "an array of sizes");
  const auto array = value.As<Napi::Array>();
  std::vector<std::int64_t> shape;
  for (std::uint32_t i = 0; i < array.Length(); i++)
    shape.push_back(as_integer(array.Get(i), name, 0, std::int64_t{1} << 46));
  return shape;
}

template <class T>
std::vector<T> copy_typed(const Napi::Value& value, napi_typedarray_type type, const char* name,
                          const char* expected) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type)
    throw_argument(name, expected);
  const auto array = value.As<Napi::TypedArray>();
  std::vector<T> values(array.ElementLength());
  if (!values.empty())
    std::memcpy(values.data(), static_cast<const std::byte*>(array.ArrayBuffer().Data()) + array.ByteOffset(),
                values.size() * sizeof(T));
  return values;
}

/// A copy of { data, dtype, shape }, since the caller may change or detach the array while the call runs.
std::shared_ptr<KernelTensor> copy_host_tensor(const Napi::Value& value, const std::string& name) {
  const Napi::Object o = as_object(value, name);
  auto tensor = std::make_shared<KernelTensor>();
  tensor->dtype = dtype_named(as_string(o.Get("dtype"), name + ".dtype"), name + ".dtype");
  tensor->shape = as_shape(o.Get("shape"), name + ".shape");
  const std::size_t bytes = tensor_bytes(tensor->dtype, tensor->shape, name);
  if (!o.Get("data").IsTypedArray()) throw_argument(name + ".data", "a typed array");
  const auto data = o.Get("data").As<Napi::TypedArray>();
  if (data.ByteLength() != bytes)
    throw Error(
        ErrorCode::invalid_argument,
        name + ": expected " + std::to_string(bytes) + " bytes, found " + std::to_string(data.ByteLength()),
        {{"name", name}, {"expected", bytes}, {"found", data.ByteLength()}});
  tensor->memory = allocate_host(bytes);
  if (bytes > 0)
    std::memcpy(tensor->memory.data,
                static_cast<const std::byte*>(data.ArrayBuffer().Data()) + data.ByteOffset(), bytes);
  return tensor;
}

Napi::Value host_result(Napi::Env env, const KernelTensor& tensor) {
  const std::size_t bytes = tensor.memory.bytes;
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, bytes);
  if (bytes > 0) std::memcpy(buffer.Data(), tensor.memory.data, bytes);
  switch (tensor.dtype) {
    case DType::f32: return Napi::Float32Array::New(env, bytes / 4, buffer, 0);
    case DType::f16:
    case DType::bf16: return Napi::Uint16Array::New(env, bytes / 2, buffer, 0);
    default: return Napi::Uint8Array::New(env, bytes, buffer, 0);
  }
}

}  // namespace

Weight Operand::weight() const {
  const std::int64_t cols = tensor->shape.empty() ? 1 : tensor->shape.back();
  return {tensor->memory.data, tensor->dtype, cols > 0 ? tensor->elements() / cols : 0, cols};
}

std::int64_t KernelCall::integer(const char* name, std::int64_t low, std::int64_t high) {
  return as_integer(args_.Get(name), name, low, high);
}
double KernelCall::number(const char* name) { return as_number(args_.Get(name), name); }
bool KernelCall::flag(const char* name) { return as_bool(args_.Get(name), name); }
std::string KernelCall::text(const char* name) { return as_string(args_.Get(name), name); }
DType KernelCall::dtype(const char* name) { return dtype_named(text(name), name); }
std::vector<std::int32_t> KernelCall::integers(const char* name) {
  return copy_typed<std::int32_t>(args_.Get(name), napi_int32_array, name, "an Int32Array");
}
std::vector<float> KernelCall::floats(const char* name) {
  return copy_typed<float>(args_.Get(name), napi_float32_array, name, "a Float32Array");
}
std::vector<std::uint32_t> KernelCall::ids(const char* name, std::int64_t below) {
  std::vector<std::uint32_t> found = as_ids(args_.Get(name), name);
  for (const std::uint32_t id : found)
    if (id >= below)
      throw Error(ErrorCode::invalid_argument,
                  std::string(name) + ": expected ids below " + std::to_string(below) + ", found " +
                      std::to_string(id),
                  {{"expected", below}, {"found", id}});
  return found;
}

Operand& KernelCall::add(const char* name, std::shared_ptr<KernelTensor> tensor) {
  Operand& operand = operands_.emplace_back();
  operand.name = name;
  operand.tensor = std::move(tensor);
  return operand;
}

Operand& KernelCall::source(const char* name) {
  const Napi::Value value = args_.Get(name);
  if (std::shared_ptr<KernelTensor> tensor = JsTensor::of(env_, value, name)) {
    if (tensor->is_kv()) throw_argument(name, "a plain tensor, not a KV cache");
    Operand& operand = add(name, std::move(tensor));
    operand.is_callers = true;
    return operand;
  }
  Operand& operand = add(name, copy_host_tensor(value, name));
  operand.on_host = true;
  return operand;
}

Operand& KernelCall::input(const char* name, std::int64_t elements) {
  Operand& operand = source(name);
  operand.wants_f32 = true;
  check_elements(name, elements, operand.tensor->elements());
  return operand;
}

Operand& KernelCall::matrix(const char* name, std::int64_t rows, std::int64_t cols) {
  Operand& operand = source(name);
  const Weight w = operand.weight();
  if (rows >= 0) check_elements(std::string(name) + "'s rows", rows, w.rows);
  if (cols >= 0) check_elements(std::string(name) + "'s columns", cols, w.cols);
  return operand;
}

WeightGroup& KernelCall::weights(std::initializer_list<Operand*> matrices, bool gate_and_up) {
  for (Operand* o : matrices) {
    if (!traits_of(o->tensor->dtype).is_weight) throw_argument(o->name, "a weight type");
    o->is_weight = true;
  }
  WeightGroup& group = weights_.emplace_back();
  group.operands = matrices;
  group.gate_and_up = gate_and_up;
  return group;
}

Operand& KernelCall::output(const char* name, DType dtype, std::int64_t elements, bool may_alias) {
  const Napi::Value value = args_.Get(name);
  std::shared_ptr<KernelTensor> tensor = JsTensor::of(env_, value, name);
  bool on_host = false;
  const bool is_callers = tensor != nullptr;
  if (is_callers) {
    if (tensor->is_kv()) throw_argument(name, "a plain tensor, not a KV cache");
    if (tensor->dtype != dtype) throw_argument(name, std::string(name_of(dtype)));
    if (!may_alias)
      for (const Operand& other : operands_)
        if (other.tensor == tensor) throw_argument(name, "a tensor that is not an input of the call");
  } else {
    const Napi::Object o = as_object(value, name);
    tensor = std::make_shared<KernelTensor>();
    tensor->dtype = dtype;
    tensor->shape = as_shape(o.Get("shape"), std::string(name) + ".shape");
    on_host = !as_bool(o.Get("resident"), std::string(name) + ".resident");
  }
  check_elements(name, elements, tensor->elements());
  Operand& operand = add(name, std::move(tensor));
  operand.on_host = on_host;
  operand.is_callers = is_callers;
  operand.is_result = true;
  return operand;
}

Operand& KernelCall::in_out(const char* name, std::int64_t elements) {
  Operand& operand = input(name, elements);
  if (operand.tensor->dtype != DType::f32) throw_argument(name, "F32, since the op changes it in place");
  operand.is_result = true;
  return operand;
}

Operand& KernelCall::kv_cache(const char* name, bool or_host) {
  const Napi::Value value = args_.Get(name);
  std::shared_ptr<KernelTensor> tensor = JsTensor::of(env_, value, name);
  if (tensor || !or_host) {
    if (!tensor || !tensor->is_kv()) throw_argument(name, "a KV cache");
    return add(name, std::move(tensor));
  }
  const Napi::Object o = as_object(value, name);
  auto planned = std::make_shared<KernelTensor>();
  planned->dtype = dtype_named(as_string(o.Get("dtype"), "kv.dtype"), "kv.dtype");
  planned->shape = as_shape(o.Get("shape"), "kv.shape");
  if (planned->shape.size() != 5 || planned->shape[0] != 2 || planned->shape[2] < 1 || planned->shape[4] < 1)
    throw_argument("kv.shape", "[2, pages, kv heads, page tokens, head_dim]");
  if (planned->dtype != DType::f16 && planned->dtype != DType::f32) throw_argument("kv.dtype", "F16 or F32");
  Operand& kv = add(name, planned);
  kv.is_unpaged_kv = true;
  const Napi::Object outer = std::exchange(args_, o);
  Operand &k = input("k", planned->elements() / 2), &v = input("v", planned->elements() / 2);
  args_ = outer;
  before = [&kv, &k, &v](Backend& backend) {
    const std::vector<std::int64_t> shape = kv.tensor->shape;
    const std::int32_t expected = backend.info().page_tokens;
    if (shape[3] != expected)
      throw Error(ErrorCode::invalid_argument,
                  "kv: expected pages of " + std::to_string(expected) + " tokens on " +
                      backend.info().device + ", found " + std::to_string(shape[3]),
                  {{"name", "kv"}, {"expected", expected}, {"found", shape[3]}});
    kv.tensor = make_kv(backend, kv.tensor->dtype, shape[1], static_cast<std::int32_t>(shape[2]),
                        static_cast<std::int32_t>(shape[4]));
    backend.elementary().write_kv({kv_shape(kv, static_cast<std::int32_t>(shape[2])), kv_layer(kv),
                                   static_cast<std::int32_t>(shape[1]), k.f32(), v.f32()});
  };
  return kv;
}

/// Packs a group of weights, or reuses an earlier packed copy unless one of its matrices has been written
/// since. Where the device reads the layout of the files, nothing is packed or kept.
void KernelCall::pack(Backend& backend, WeightGroup& group) {
  const auto is_current = [](const PackedGroup& known) {
    return std::all_of(known.of.begin(), known.of.end(), [](const auto& one) {
      const std::shared_ptr<KernelTensor> tensor = one.first.lock();
      return tensor && tensor->writes == one.second;
    });
  };
  const auto is_of = [&](const PackedGroup& known) {
    return std::equal(known.of.begin(), known.of.end(), group.operands.begin(), group.operands.end(),
                      [](const auto& one, const Operand* o) { return one.first.lock() == o->tensor; });
  };
  std::vector<PackedGroup>& kept = group.operands[0]->tensor->packed;
  std::erase_if(kept, [&](const PackedGroup& known) { return !is_current(known); });
  const auto found = std::find_if(kept.begin(), kept.end(), is_of);
  if (found != kept.end()) {
    group.packed = found->packed;
    return;
  }
  ElementaryOps& ops = backend.elementary();
  std::vector<WeightSpec> specs;
  std::vector<TensorMemory> host;
  PackedGroup packed;
  bool all_callers = true;
  for (std::size_t i = 0; i < group.operands.size(); i++) {
    const Operand& o = *group.operands[i];
    const Weight w = o.weight();
    specs.push_back({w.dtype, w.rows, w.cols,
                     !group.gate_and_up ? WeightUse::matrix
                     : i == 0           ? WeightUse::gate
                                        : WeightUse::up});
    host.push_back(o.on_host ? o.tensor->memory : ops.to_host(o.tensor->memory));
    packed.of.emplace_back(o.tensor, o.tensor->writes);
    all_callers = all_callers && o.is_callers;
  }
  group.packed = ops.pack_weights(specs, host);
  if (!all_callers || !group.packed.memory.data) return;
  packed.packed = group.packed;
  kept.push_back(std::move(packed));
}

void KernelCall::prepare(Backend& backend) {
  ElementaryOps& ops = backend.elementary();
  const std::string& device = backend.info().device;
  for (Operand& o : operands_) {
    if (o.is_unpaged_kv) continue;
    KernelTensor& tensor = *o.tensor;
    if (!tensor.device.empty() && tensor.device != device)
      throw Error(ErrorCode::invalid_argument,
                  o.name + ": expected a tensor on " + device + ", found one on " + tensor.device,
                  {{"name", o.name}, {"expected", device}, {"found", tensor.device}});
    if (tensor.device.empty()) {
      if (!o.is_weight && !o.allocated_by_run)
        tensor.memory = tensor.memory.data ? ops.to_device(std::move(tensor.memory))
                                           : ops.allocate(tensor_bytes(tensor.dtype, tensor.shape, o.name));
      tensor.device = device;
    }
    if (o.is_result && o.is_callers) tensor.writes++;
    if (o.wants_f32 && tensor.dtype != DType::f32) {
      auto converted = std::make_shared<KernelTensor>();
      converted->device = device;
      converted->shape = tensor.shape;
      converted->memory = ops.allocate(static_cast<std::size_t>(tensor.elements()) * sizeof(float));
      const Weight from = o.weight();
      ops.dequantize(
          {from.dtype, from.rows, from.cols, from.data, reinterpret_cast<float*>(converted->memory.data)});
      o.tensor = std::move(converted);
    }
  }
  for (WeightGroup& group : weights_) pack(backend, group);
  if (before) before(backend);
}

double KernelCall::measure(Backend& backend) {
  double us = 0;
  const Timed timed = [&](const std::function<void()>& op) { us += backend.elementary().time_us(op); };
  if (run_timed)
    run_timed(backend, timed);
  else
    timed([&] { run(backend); });
  return us;
}

void KernelCall::finish(Backend& backend) {
  for (Operand& o : operands_)
    if (o.is_result && o.on_host && !o.allocated_by_run)
      o.tensor->memory = backend.elementary().to_host(std::move(o.tensor->memory));
}

Napi::Array KernelCall::results(Napi::Env env) const {
  Napi::Array array = Napi::Array::New(env);
  for (const Operand& o : operands_) {
    if (!o.is_result) continue;
    if (o.is_callers)
      array.Set(array.Length(), env.Null());
    else
      array.Set(array.Length(), o.on_host ? host_result(env, *o.tensor) : JsTensor::create(env, o.tensor));
  }
  return array;
}

KvLayer kv_layer(const Operand& kv) {
  const KernelTensor& t = *kv.tensor;
  return {t.memory.data, t.kv_page_bytes, t.dtype, static_cast<std::int32_t>(t.shape[3])};
}

AttentionShape kv_shape(const Operand& kv, std::int32_t n_heads) {
  AttentionShape shape;
  shape.n_heads = n_heads;
  shape.n_kv_heads = static_cast<std::int32_t>(kv.tensor->shape[2]);
  shape.head_dim = static_cast<std::int32_t>(kv.tensor->shape[4]);
  return shape;
}

std::shared_ptr<KernelTensor> make_kv(Backend& backend, DType dtype, std::int64_t pages,
                                      std::int32_t kv_heads, std::int32_t head_dim) {
  AttentionShape shape;
  shape.n_heads = shape.n_kv_heads = kv_heads;
  shape.head_dim = head_dim;
  auto tensor = std::make_shared<KernelTensor>();
  tensor->device = backend.info().device;
  tensor->dtype = dtype;
  tensor->shape = {2, pages, kv_heads, backend.info().page_tokens, head_dim};
  tensor->kv_page_bytes = backend.kv().page_bytes(shape, dtype);
  tensor->memory = backend.elementary().allocate(tensor->kv_page_bytes * static_cast<std::size_t>(pages));
  return tensor;
}

}  // namespace cria
