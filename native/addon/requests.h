// Converts the requests and options of lib/native.ts.
#pragma once

#include <napi.h>

#include "engine/loader.h"
#include "engine/request.h"

namespace cria {

/// NativeLoadOptions.
LoadOptions as_load_options(const Napi::Value& value);

/// NativeRequest.
GenerateRequest as_request(const Napi::Value& value);

/// NativeAdapters.
AdapterSet as_adapters(const Napi::Value& value);

/// NativeText or token ids; `bos` applies only to text.
Prompt as_prompt(const Napi::Value& prompt, const Napi::Value& bos);

}  // namespace cria
