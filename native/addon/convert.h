// JavaScript values -> C++. TypeScript has already validated them; these checks keep a wrong call from
// becoming undefined behaviour. Each throws ERR_INVALID_ARGUMENT naming the field and what was expected.
#pragma once

#include <napi.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace cria {

/// Throws ERR_INVALID_ARGUMENT: "<name>: expected <expected>".
[[noreturn]] void throw_argument(const std::string& name, const std::string& expected);

Napi::Object as_object(const Napi::Value& value, const std::string& name);
Napi::Function as_function(const Napi::Value& value, const std::string& name);
std::string as_string(const Napi::Value& value, const std::string& name);
bool as_bool(const Napi::Value& value, const std::string& name);
double as_number(const Napi::Value& value, const std::string& name);
/// An integer in [low, high].
std::int64_t as_integer(const Napi::Value& value, const std::string& name, std::int64_t low,
                        std::int64_t high);
std::uint64_t as_uint64(const Napi::Value& bigint, const std::string& name);
std::vector<std::uint32_t> as_ids(const Napi::Value& uint32_array, const std::string& name);
std::vector<std::string> as_strings(const Napi::Value& array, const std::string& name);
/// Null and undefined are absent.
std::optional<bool> as_optional_bool(const Napi::Value& value, const std::string& name);

Napi::Uint32Array ids_to_js(Napi::Env env, std::span<const std::uint32_t> ids);
Napi::Array strings_to_js(Napi::Env env, std::span<const std::string> strings);
Napi::Float32Array floats_to_js(Napi::Env env, std::span<const float> values);

}  // namespace cria
