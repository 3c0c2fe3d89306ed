// Requests and options of lib/native.ts -> C++.
#pragma once

#include <napi.h>

#include "engine/loader.h"
#include "engine/request.h"

namespace cria {

/// NativeLoadOptions.
LoadOptions as_load_options(const Napi::Value& value);

/// NativeRequest.
GenerateRequest as_request(const Napi::Value& value);

/// NativeText or ids; `bos` counts for text alone.
Prompt as_prompt(const Napi::Value& prompt, const Napi::Value& bos);

}  // namespace cria
