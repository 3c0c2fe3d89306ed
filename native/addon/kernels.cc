#include "addon/kernels.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "addon/convert.h"
#include "addon/environment.h"
#include "addon/kernel_call.h"
#include "addon/tasks.h"
#include "core/rope_frequencies.h"
#include "io/gguf.h"

namespace cria {
namespace {

using Calls = std::vector<std::shared_ptr<KernelCall>>;

BackendOptions as_backend_options(const Napi::Value& value) {
  const Napi::Object o = as_object(value, "where");
  BackendOptions options;
  options.device = as_string(o.Get("device"), "device");
  options.threads = static_cast<int>(as_integer(o.Get("threads"), "threads", 0, 1024));
  options.isa = as_string(o.Get("isa"), "isa");
  return options;
}

/// Runs work(backend, cancel) on the kernel thread.
template <class Work, class Convert>
Napi::Object start_kernel_task(Napi::Env env, BackendOptions options, Work work, Convert convert) {
  return start_task(
      env, TaskLength::ordered_work,
      [runtime = Environment::of(env)->kernels, options = std::move(options), work = std::move(work)](
          const CancelFlag& cancel) mutable { return work(runtime->backend(options), cancel); },
      std::move(convert));
}

/// The ratio of the bytes that a kernel reads and writes. No reads: unknown, or not to be measured.
struct Mix {
  int reads = 0, writes = 0;
};

/// How often run_calls() runs and what it measures.
struct Schedule {
  std::int64_t warmup, iterations;
  Mix mix;
};

struct Ran {
  Calls calls;
  std::vector<double> times;  // microseconds
  /// The memory bandwidth around each run, with the kernel's mix of reads and writes and with reads alone;
  /// empty where it was not measured.
  std::vector<double> memory_gbs, read_gbs;
};

/// Measures the memory bandwidth between runs, every few milliseconds. A run gets the mean of the
/// measurements before and after it.
class BandwidthMeter {
 public:
  BandwidthMeter(std::unique_ptr<MemoryProbe> probe, Mix mix, Ran& ran)
      : probe_(std::move(probe)), mix_(mix), ran_(ran), before_(measure()) {}

  void after_run(double us, bool is_last) {
    constexpr double kIntervalUs = 4000;
    if ((elapsed_us_ += us) < kIntervalUs && !is_last) return;
    const Rates after = measure();
    ran_.memory_gbs.resize(ran_.times.size(), (before_.mixed + after.mixed) / 2);
    ran_.read_gbs.resize(ran_.times.size(), (before_.read + after.read) / 2);
    before_ = after;
    elapsed_us_ = 0;
  }

 private:
  struct Rates {
    double mixed, read;
  };
  Rates measure() {
    const double read = probe_->gbs(1, 0);
    return {mix_.writes == 0 ? read : probe_->gbs(mix_.reads, mix_.writes), read};
  }

  std::unique_ptr<MemoryProbe> probe_;
  const Mix mix_;
  Ran& ran_;
  Rates before_;
  double elapsed_us_ = 0;
};

/// Runs the calls in turn, warm-up runs first. With a mix, measures the memory bandwidth between the runs
/// where the backend has a probe (its memory is shared with other programs).
Ran run_calls(Backend& backend, const CancelFlag& cancel, Calls calls, const Schedule& schedule) {
  for (const auto& call : calls) call->prepare(backend);
  Ran ran;
  ran.calls = std::move(calls);
  ran.times.reserve(static_cast<std::size_t>(schedule.iterations));
  std::unique_ptr<MemoryProbe> probe = schedule.mix.reads > 0 ? backend.elementary().memory_probe() : nullptr;
  std::size_t turn = 0;
  const auto run_next = [&] {
    cancel.check();
    return ran.calls[turn++ % ran.calls.size()]->measure(backend);
  };
  for (std::int64_t i = 0; i < schedule.warmup; i++) run_next();
  std::unique_ptr<BandwidthMeter> meter;
  if (probe) meter = std::make_unique<BandwidthMeter>(std::move(probe), schedule.mix, ran);
  for (std::int64_t i = 0; i < schedule.iterations; i++) {
    ran.times.push_back(run_next());
    if (meter) meter->after_run(ran.times.back(), i + 1 == schedule.iterations);
  }
  ran.calls.resize(1);
  ran.calls[0]->finish(backend);
  return ran;
}

Mix as_mix(const Napi::Value& value) {
  if (value.IsUndefined()) return {};
  const Napi::Object o = as_object(value, "mix");
  return {.reads = static_cast<int>(as_integer(o.Get("reads"), "reads", 1, 8)),
          .writes = static_cast<int>(as_integer(o.Get("writes"), "writes", 0, 8))};
}

Napi::Float64Array doubles_to_js(Napi::Env env, const std::vector<double>& values) {
  Napi::Float64Array array = Napi::Float64Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

/// run(op, calls, { device, isa, threads }, warmup, iterations, mix?)
Napi::Value run_kernel(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const std::string op = as_string(info[0], "op");
    if (!info[1].IsArray() || info[1].As<Napi::Array>().Length() == 0)
      throw_argument("calls", "an array of arguments");
    const auto list = info[1].As<Napi::Array>();
    BackendOptions options = as_backend_options(info[2]);
    const Schedule schedule{.warmup = as_integer(info[3], "warmup", 0, 1 << 20),
                            .iterations = as_integer(info[4], "iterations", 1, 1 << 20),
                            .mix = as_mix(info[5])};
    Calls calls;
    for (std::uint32_t i = 0; i < list.Length(); i++) {
      calls.push_back(std::make_shared<KernelCall>(env, as_object(list.Get(i), "calls")));
      parse_kernel(op, *calls.back());
    }
    return start_kernel_task(
        env, std::move(options),
        [calls = std::move(calls), schedule](Backend& backend, const CancelFlag& cancel) mutable {
          return run_calls(backend, cancel, std::move(calls), schedule);
        },
        [](Napi::Env e, Ran&& ran) -> Napi::Value {
          const KernelCall& call = *ran.calls[0];
          Napi::Object o = Napi::Object::New(e);
          o.Set("outputs", call.results(e));
          o.Set("ids", ids_to_js(e, call.found_ids));
          o.Set("floats", floats_to_js(e, call.found_floats));
          o.Set("times", doubles_to_js(e, ran.times));
          o.Set("memoryGBs", doubles_to_js(e, ran.memory_gbs));
          o.Set("readGBs", doubles_to_js(e, ran.read_gbs));
          return o;
        });
  });
}

/// allocateKv({ pages, kvHeads, headDim, dtype }, where)
Napi::Value allocate_kv(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Object o = as_object(info[0], "options");
    const std::int64_t pages = as_integer(o.Get("pages"), "pages", 1, 1 << 24);
    const auto heads = static_cast<std::int32_t>(as_integer(o.Get("kvHeads"), "kvHeads", 1, 65536)),
               dim = static_cast<std::int32_t>(as_integer(o.Get("headDim"), "headDim", 1, 65536));
    const DType dtype = as_string(o.Get("dtype"), "dtype") == "F32" ? DType::f32 : DType::f16;
    return start_kernel_task(
        info.Env(), as_backend_options(info[1]),
        [=](Backend& backend, const CancelFlag&) { return make_kv(backend, dtype, pages, heads, dim); },
        [](Napi::Env e, std::shared_ptr<KernelTensor>&& tensor) -> Napi::Value {
          return JsTensor::create(e, std::move(tensor));
        });
  });
}

using NamedTensors = std::vector<std::pair<std::string, std::shared_ptr<KernelTensor>>>;

/// Every tensor of a model, on the backend's device.
NamedTensors load(Backend& backend, const CancelFlag& cancel, const std::string& path) {
  const std::unique_ptr<const ModelSource> file = ModelSource::open(path);
  NamedTensors tensors;
  for (const GgufTensor& from : file->tensors()) {
    cancel.check();
    auto tensor = std::make_shared<KernelTensor>();
    tensor->device = backend.info().device;
    tensor->dtype = from.dtype;
    for (std::uint32_t d = from.n_dims; d > 0; d--)
      tensor->shape.push_back(static_cast<std::int64_t>(from.dims[d - 1]));
    TensorMemory memory = allocate_host(from.bytes);
    file->read(from, 0, memory.data, from.bytes);
    tensor->memory = backend.elementary().to_device(std::move(memory));
    tensors.emplace_back(from.name, std::move(tensor));
  }
  return tensors;
}

/// loadTensors(path, where)
Napi::Value load_tensors(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return start_kernel_task(
        info.Env(), as_backend_options(info[1]),
        [path = as_string(info[0], "path")](Backend& backend, const CancelFlag& cancel) {
          return load(backend, cancel, path);
        },
        [](Napi::Env e, NamedTensors&& tensors) -> Napi::Value {
          Napi::Array array = Napi::Array::New(e, tensors.size());
          for (std::uint32_t i = 0; i < array.Length(); i++) {
            Napi::Array entry = Napi::Array::New(e, 2);
            entry.Set(0u, Napi::String::New(e, tensors[i].first));
            entry.Set(1u, JsTensor::create(e, std::move(tensors[i].second)));
            array.Set(i, entry);
          }
          return array;
        });
  });
}

/// describe(where)
Napi::Value describe(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return start_kernel_task(
        info.Env(), as_backend_options(info[0]),
        [](Backend& backend, const CancelFlag&) { return backend.info(); },
        [](Napi::Env e, BackendInfo&& found) -> Napi::Value {
          Napi::Object o = Napi::Object::New(e);
          o.Set("device", Napi::String::New(e, found.device));
          o.Set("name", Napi::String::New(e, found.name));
          o.Set("isa", Napi::String::New(e, found.isa));
          o.Set("threads", Napi::Number::New(e, found.threads));
          o.Set("pageTokens", Napi::Number::New(e, found.page_tokens));
          return o;
        });
  });
}

/// ceilings(where)
Napi::Value ceilings(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return start_kernel_task(
        info.Env(), as_backend_options(info[0]),
        [](Backend& backend, const CancelFlag& cancel) {
          return backend.elementary().measure_ceilings(cancel);
        },
        [](Napi::Env e, DeviceCeilings&& found) -> Napi::Value {
          Napi::Object o = Napi::Object::New(e);
          o.Set("threads", Napi::Number::New(e, found.threads));
          o.Set("readGBs", Napi::Number::New(e, found.read_gbs));
          o.Set("int8GMacs", Napi::Number::New(e, found.int8_gmacs));
          o.Set("f32GMacs", Napi::Number::New(e, found.f32_gmacs));
          o.Set("bf16GMacs", Napi::Number::New(e, found.bf16_gmacs));
          return o;
        });
  });
}

RopeScaling::Kind as_scaling_kind(const Napi::Value& value) {
  const std::string name = as_string(value, "scaling");
  if (name == "linear") return RopeScaling::Kind::linear;
  if (name == "llama3") return RopeScaling::Kind::llama3;
  if (name == "yarn") return RopeScaling::Kind::yarn;
  return RopeScaling::Kind::none;
}

/// ropeFrequencies({ base, dim, scaling, factor, ... }) -> { frequencies, magnitude }
Napi::Value rope_frequencies(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    const Napi::Object o = as_object(info[0], "options");
    const auto number = [&](const char* name) { return as_number(o.Get(name), name); };
    RopeScaling scaling;
    scaling.kind = as_scaling_kind(o.Get("scaling"));
    scaling.factor = number("factor");
    scaling.low_freq_factor = number("lowFreqFactor");
    scaling.high_freq_factor = number("highFreqFactor");
    scaling.original_context = number("originalContextLength");
    scaling.beta_fast = number("betaFast");
    scaling.beta_slow = number("betaSlow");
    const auto dim = static_cast<std::int32_t>(as_integer(o.Get("dim"), "dim", 2, 65536));
    if (o.Get("factors").IsTypedArray()) {
      const auto factors = o.Get("factors").As<Napi::Float32Array>();
      if (factors.TypedArrayType() != napi_float32_array ||
          factors.ElementLength() != static_cast<std::size_t>(dim / 2))
        throw_argument("factors", "a Float32Array with one element for each pair of dimensions");
      scaling.factors.assign(factors.Data(), factors.Data() + factors.ElementLength());
    }
    Napi::Object found = Napi::Object::New(env);
    found.Set("frequencies", floats_to_js(env, rope_inverse_frequencies(number("base"), dim, scaling)));
    found.Set("magnitude", Napi::Number::New(env, rope_magnitude(scaling)));
    return found;
  });
}

}  // namespace

Backend& KernelRuntime::backend(const BackendOptions& options) {
  const auto known = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return entry.options.device == options.device && entry.options.threads == options.threads &&
           entry.options.isa == options.isa;
  });
  if (known != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, known);
    return *entries_.front().backend;
  }
  auto backend = create_backend(options);
  if (entries_.size() >= kMaxBackends) entries_.pop_back();
  entries_.push_front({options, std::move(backend)});
  return *entries_.front().backend;
}

Napi::Object kernels_to_js(Napi::Env env) {
  const auto& environment = Environment::of(env);
  environment->kernels = std::make_shared<KernelRuntime>();
  environment->tensor_class = Napi::Persistent(JsTensor::define(env));
  Napi::Object kernels = Napi::Object::New(env);
  kernels.Set("run", Napi::Function::New(env, run_kernel, "run"));
  kernels.Set("allocateKv", Napi::Function::New(env, allocate_kv, "allocateKv"));
  kernels.Set("loadTensors", Napi::Function::New(env, load_tensors, "loadTensors"));
  kernels.Set("describe", Napi::Function::New(env, describe, "describe"));
  kernels.Set("ceilings", Napi::Function::New(env, ceilings, "ceilings"));
  kernels.Set("ropeFrequencies", Napi::Function::New(env, rope_frequencies, "ropeFrequencies"));
  return kernels;
}

}  // namespace cria
