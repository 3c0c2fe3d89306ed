// NativeFileInfo of lib/native.ts: what a file says of itself.
#pragma once

#include <napi.h>

#include "io/gguf.h"

namespace cria {

Napi::Object file_info_to_js(Napi::Env env, const GgufFile& file);

}  // namespace cria
