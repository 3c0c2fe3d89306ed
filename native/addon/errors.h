// The one place where native errors become JavaScript's: an Error with `code` and `details`.
#pragma once

#include <napi.h>

#include <exception>

#include "core/error.h"

namespace cria {

Napi::Object details_to_js(Napi::Env env, const Error& error);
Napi::Error to_js_error(Napi::Env env, const Error& error);

/// Any exception as the one type: bad_alloc is ERR_OUT_OF_MEMORY, what is not ours is ERR_INTERNAL.
Error to_cria_error(const std::exception_ptr& exception) noexcept;

/// Runs an N-API entry: whatever it throws arrives in JavaScript as an Error, never as a terminate.
template <class Body>
auto guarded(Napi::Env env, Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw to_js_error(env, to_cria_error(std::current_exception()));
  }
}

}  // namespace cria
