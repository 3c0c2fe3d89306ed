// NativeFileInfo of lib/native.ts: the metadata and tensors of a GGUF file.
#pragma once

#include <napi.h>

#include "io/model_source.h"

namespace cria {

Napi::Object file_info_to_js(Napi::Env env, const ModelSource& file);

}  // namespace cria
