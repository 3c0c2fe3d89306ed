#include "addon/conversion.h"

#include <memory>
#include <string>
#include <utility>

#include "addon/convert.h"
#include "addon/progress.h"
#include "addon/tasks.h"
#include "convert/converter.h"
#include "engine/loader.h"

namespace cria {
namespace {

struct ConvertOptions {
  std::string source, output, importance;
  QuantizeOptions quantize;
  int threads = 0;
};

ConvertOptions as_convert_options(const Napi::Value& value) {
  const Napi::Object o = as_object(value, "options");
  ConvertOptions options;
  options.source = as_string(o.Get("source"), "source");
  options.output = as_string(o.Get("output"), "output");
  options.quantize.type = parse_file_type(as_string(o.Get("type"), "type"));
  options.importance = as_string(o.Get("imatrix"), "imatrix");
  options.quantize.requantize = as_bool(o.Get("requantize"), "requantize");
  options.threads = static_cast<int>(as_integer(o.Get("threads"), "threads", 0, 1024));
  return options;
}

ConvertResult convert(ConvertOptions options, const ConvertProgress& progress, const CancelFlag& cancel) {
  std::shared_ptr<ModelSource> source = ModelSource::open(options.source);
  cancel.check();
  add_vocabulary(*source);
  if (!options.importance.empty())
    options.quantize.importance =
        std::make_shared<const ImportanceMatrix>(ImportanceMatrix::read(options.importance));
  const QuantizedSource quantized(std::move(source), options.quantize);
  return write_model(quantized, options.output, options.threads, progress, cancel);
}

}  // namespace

Napi::Value convert_model_task(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const ConvertOptions options = as_convert_options(info[0]);
    const Progress progress(env, info[1]);
    return start_task(
        env, TaskLength::long_work,
        [options, progress](const CancelFlag& cancel) { return convert(options, progress.report, cancel); },
        [](Napi::Env e, ConvertResult&& result) -> Napi::Value {
          Napi::Object o = Napi::Object::New(e);
          o.Set("sourceBytes", Napi::Number::New(e, static_cast<double>(result.source_bytes)));
          o.Set("fileBytes", Napi::Number::New(e, static_cast<double>(result.file_bytes)));
          Napi::Object types = Napi::Object::New(e);
          for (const auto& [type, bytes] : result.bytes_by_type)
            types.Set(type, Napi::Number::New(e, static_cast<double>(bytes)));
          o.Set("tensorTypes", types);
          return o;
        },
        [progress](Environment& at) { progress.release(at); });
  });
}

Napi::Array file_types_to_js(Napi::Env env) {
  Napi::Array names = Napi::Array::New(env);
  for (const FileTypeTraits& type : kFileTypes)
    names.Set(names.Length(), Napi::String::New(env, std::string(type.name)));
  return names;
}

}  // namespace cria
