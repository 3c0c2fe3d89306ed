// Converting and quantizing model files.
#pragma once

#include <napi.h>

namespace cria {

/// convertModel(options, onProgress | null): NativeTask<NativeConversion>.
Napi::Value convert_model_task(const Napi::CallbackInfo& info);

/// The names of the file types, best first.
Napi::Array file_types_to_js(Napi::Env env);

}  // namespace cria
