#include "addon/inspect.h"

#include <algorithm>
#include <memory>
#include <string>
#include <variant>

#include "addon/convert.h"
#include "core/error.h"
#include "io/gguf.h"
#include "model/config_keys.h"

namespace cria {
namespace {

constexpr std::size_t kArrayHead = 16;  // elements shown of a metadata array

/// A number where a double holds the integer exactly, else a bigint.
template <class Integer>
Napi::Value integer_to_js(Napi::Env env, Integer value) {
  if (is_exact_in_double(value)) return Napi::Number::New(env, static_cast<double>(value));
  return Napi::BigInt::New(env, value);
}

Napi::Value element_to_js(Napi::Env env, const GgufArray& array, std::size_t i) {
  switch (array.element_type()) {
    case GgufType::string: return Napi::String::New(env, std::string(array.string_at(i)));
    case GgufType::f32:
    case GgufType::f64: return Napi::Number::New(env, array.number_at(i));
    case GgufType::boolean: return Napi::Boolean::New(env, array.number_at(i) != 0);
    case GgufType::u64:
      // integer_at() refuses values beyond 63 bits; the nearest double serves for display.
      return Napi::Number::New(env, array.number_at(i));
    default: return integer_to_js(env, array.integer_at(i));
  }
}

Napi::Value value_to_js(Napi::Env env, const GgufValue& value) {
  if (const auto* u = std::get_if<std::uint64_t>(&value)) return integer_to_js(env, *u);
  if (const auto* i = std::get_if<std::int64_t>(&value)) return integer_to_js(env, *i);
  if (const auto* d = std::get_if<double>(&value)) return Napi::Number::New(env, *d);
  if (const auto* b = std::get_if<bool>(&value)) return Napi::Boolean::New(env, *b);
  if (const auto* s = std::get_if<std::string>(&value)) return Napi::String::New(env, *s);
  const GgufArray& array = std::get<GgufArray>(value);
  Napi::Object o = Napi::Object::New(env);
  o.Set("elementType", Napi::String::New(env, std::string(name_of(array.element_type()))));
  o.Set("length", Napi::Number::New(env, static_cast<double>(array.size())));
  Napi::Array head = Napi::Array::New(env);
  for (std::size_t i = 0; i < std::min(array.size(), kArrayHead); i++)
    head.Set(static_cast<std::uint32_t>(i), element_to_js(env, array, i));
  o.Set("head", head);
  return o;
}

Napi::Array metadata_to_js(Napi::Env env, const ModelSource& file) {
  Napi::Array metadata = Napi::Array::New(env, file.metadata().size());
  for (std::size_t i = 0; i < file.metadata().size(); i++) {
    const auto& [key, value] = file.metadata()[i];
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("key", Napi::String::New(env, key));
    entry.Set("type", Napi::String::New(env, std::string(name_of(file.metadata_type(i)))));
    entry.Set("value", value_to_js(env, value));
    metadata.Set(static_cast<std::uint32_t>(i), entry);
  }
  return metadata;
}

Napi::Array tensors_to_js(Napi::Env env, const ModelSource& file) {
  Napi::Array tensors = Napi::Array::New(env, file.tensors().size());
  for (std::size_t i = 0; i < file.tensors().size(); i++) {
    const GgufTensor& t = file.tensors()[i];
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", Napi::String::New(env, t.name));
    entry.Set("type", Napi::String::New(env, std::string(name_of(t.dtype))));
    Napi::Array shape = Napi::Array::New(env, t.n_dims);
    for (std::uint32_t d = 0; d < t.n_dims; d++)
      shape.Set(d, Napi::Number::New(env, static_cast<double>(t.dims[d])));
    entry.Set("shape", shape);
    entry.Set("bytes", Napi::Number::New(env, static_cast<double>(t.bytes)));
    entry.Set("file", Napi::Number::New(env, t.file_index));
    tensors.Set(static_cast<std::uint32_t>(i), entry);
  }
  return tensors;
}

}  // namespace

Napi::Object file_info_to_js(Napi::Env env, const ModelSource& file) {
  Napi::Object o = Napi::Object::New(env);
  o.Set("path", Napi::String::New(env, file.path()));
  o.Set("format", std::string(file.format()));
  if (const auto* gguf = dynamic_cast<const GgufFile*>(&file))
    o.Set("version", Napi::Number::New(env, gguf->version()));
  o.Set("fileBytes", Napi::Number::New(env, static_cast<double>(file.total_file_bytes())));
  Napi::Array files = Napi::Array::New(env);
  for (const auto& part : file.files()) files.Set(files.Length(), Napi::String::New(env, part->path()));
  o.Set("files", files);
  o.Set("metadata", metadata_to_js(env, file));
  o.Set("tensors", tensors_to_js(env, file));
  o.Set("warnings", strings_to_js(env, key_warnings(file)));
  return o;
}

}  // namespace cria
