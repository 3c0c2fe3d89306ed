#include "addon/convert.h"

#include <cmath>
#include <cstring>

#include "core/error.h"

namespace cria {

void throw_argument(const std::string& name, const std::string& expected) {
  throw Error(ErrorCode::invalid_argument, name + ": expected " + expected,
              {{"name", name}, {"expected", expected}});
}

Napi::Object as_object(const Napi::Value& value, const std::string& name) {
  if (!value.IsObject()) throw_argument(name, "an object");
  return value.As<Napi::Object>();
}

Napi::Function as_function(const Napi::Value& value, const std::string& name) {
  if (!value.IsFunction()) throw_argument(name, "a function");
  return value.As<Napi::Function>();
}

std::string as_string(const Napi::Value& value, const std::string& name) {
  if (!value.IsString()) throw_argument(name, "a string");
  return value.As<Napi::String>().Utf8Value();
}

bool as_bool(const Napi::Value& value, const std::string& name) {
  if (!value.IsBoolean()) throw_argument(name, "a boolean");
  return value.As<Napi::Boolean>().Value();
}

double as_number(const Napi::Value& value, const std::string& name) {
  if (!value.IsNumber()) throw_argument(name, "a number");
  return value.As<Napi::Number>().DoubleValue();
}

std::int64_t as_integer(const Napi::Value& value, const std::string& name, std::int64_t low,
                        std::int64_t high) {
  const double number = as_number(value, name);
  if (!(number >= static_cast<double>(low) && number <= static_cast<double>(high)) ||
      number != std::floor(number)) {
    throw Error(ErrorCode::invalid_argument,
                name + ": expected an integer from " + std::to_string(low) + " to " + std::to_string(high) +
                    ", found " + std::to_string(number),
                {{"name", name}, {"found", number}});
  }
  return static_cast<std::int64_t>(number);
}

std::uint64_t as_uint64(const Napi::Value& value, const std::string& name) {
  if (!value.IsBigInt()) throw_argument(name, "a bigint");
  bool lossless = false;
  const std::uint64_t number = value.As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless) throw_argument(name, "a bigint from 0 to 2^64 - 1");
  return number;
}

std::vector<std::uint32_t> as_ids(const Napi::Value& value, const std::string& name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array)
    throw_argument(name, "a Uint32Array");
  const auto array = value.As<Napi::Uint32Array>();
  // A detached or empty array has no data pointer.
  if (array.ElementLength() == 0) return {};
  return {array.Data(), array.Data() + array.ElementLength()};
}

std::vector<std::string> as_strings(const Napi::Value& value, const std::string& name) {
  if (!value.IsArray()) throw_argument(name, "an array of strings");
  const auto array = value.As<Napi::Array>();
  std::vector<std::string> strings;
  for (std::uint32_t i = 0; i < array.Length(); i++)
    strings.push_back(as_string(array.Get(i), name + "[" + std::to_string(i) + "]"));
  return strings;
}

std::optional<bool> as_optional_bool(const Napi::Value& value, const std::string& name) {
  if (value.IsNull() || value.IsUndefined()) return std::nullopt;
  return as_bool(value, name);
}

Napi::Uint32Array ids_to_js(Napi::Env env, std::span<const std::uint32_t> ids) {
  Napi::Uint32Array array = Napi::Uint32Array::New(env, ids.size());
  if (!ids.empty()) std::memcpy(array.Data(), ids.data(), ids.size_bytes());
  return array;
}

Napi::Array strings_to_js(Napi::Env env, std::span<const std::string> strings) {
  Napi::Array array = Napi::Array::New(env, strings.size());
  for (std::size_t i = 0; i < strings.size(); i++)
    array.Set(static_cast<std::uint32_t>(i), Napi::String::New(env, strings[i]));
  return array;
}

Napi::Float32Array floats_to_js(Napi::Env env, std::span<const float> values) {
  Napi::Float32Array array = Napi::Float32Array::New(env, values.size());
  if (!values.empty()) std::memcpy(array.Data(), values.data(), values.size_bytes());
  return array;
}

}  // namespace cria
