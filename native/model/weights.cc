#include "model/weights.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <exception>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include "core/error.h"
#include "core/huge_memory.h"
#include "io/file_mapping.h"
#include "model/config_experts.h"
#include "model/float_tensor.h"

namespace cria {
namespace {

constexpr int kMaxReaders = 4;  // enough to fill the page cache's or an SSD's bandwidth

/// Where the values of one weight come from.
struct Source {
  const GgufTensor* tensor;
  WeightSpec spec;
  // The weight's first row in the tensor; of a vector, its first element.
  std::uint64_t first = 0;
  // Vectors: what their elements are multiplied by.
  float multiplier = 1;

  bool is_vector() const { return spec.use == WeightUse::vector; }
  /// Whether the tensor's bytes are the weight's.
  bool is_stored() const { return !is_vector() || (tensor->dtype == DType::f32 && multiplier == 1); }
  std::size_t row_bytes() const { return cria::row_bytes(spec.dtype, static_cast<std::size_t>(spec.cols)); }
  /// Where the weight begins in a tensor that stores it.
  std::uint64_t offset() const { return first * (is_vector() ? sizeof(float) : row_bytes()); }

  /// Bytes [from, from + bytes) of the weight.
  void read(const ModelSource& file, std::size_t from, void* dst, std::size_t bytes) const {
    if (is_stored()) return file.read(*tensor, offset() + from, dst, bytes);
    const std::span out(static_cast<float*>(dst), bytes / sizeof(float));
    read_floats(file, *tensor, first + from / sizeof(float), out);
    for (float& value : out) value *= multiplier;
  }
};

/// Rows of a matrix; n = 0: all.
struct Rows {
  std::uint64_t first = 0, n = 0;
};

struct MatrixOptions {
  WeightUse use = WeightUse::matrix;
  Rows rows = {};
  // In the feed-forward network llama.cpp multiplies by the scale after it has added the bias; in attention,
  // before. Here it is always before (Weight), so the scale joins such a bias.
  bool scales_bias = false;
};

/// Which tensor fills which member, collected first so that the upload can size its memory. Of a layer the
/// biases come last: matrices that are multiplied together lie together.
class WeightList {
 public:
  /// Keeps pointers into `weights`.
  WeightList(const ModelSource& file, const ModelConfig& config, bool apart, ModelWeights& weights)
      : file_(file), apart_(apart) {
    weights.layers.resize(config.n_layers);
    add_matrix("token_embd", &weights.embedding);
    for (std::uint32_t i = 0; i < config.n_layers; i++) {
      layer_ = static_cast<std::int32_t>(i);
      add_layer(config, "blk." + std::to_string(i) + ".", &weights.layers[i]);
    }
    layer_ = -1;
    add_vector("output_norm.weight", &weights.output_norm);
    if (!config.tied_output) add_matrix("output", &weights.output);
  }

  const std::vector<Source>& sources() const { return sources_; }
  std::vector<WeightSpec> specs() const {
    std::vector<WeightSpec> specs;
    for (const Source& s : sources_) specs.push_back(s.spec);
    return specs;
  }
  void assign(const std::vector<Weight>& weights) {
    for (std::size_t i = 0; i < targets_.size(); i++) {
      const Target& target = targets_[i];
      if (target.is_bias) {
        target.weight->bias = static_cast<const float*>(weights[i].data);
      } else {
        *target.weight = weights[i];
        target.weight->scale = target.scale;
      }
    }
  }

 private:
  struct Target {
    Weight* weight;
    bool is_bias = false;
    float scale = 1;
  };
  struct Bias {
    Weight* of;
    Source source;
  };

  void add_layer(const ModelConfig& config, const std::string& prefix, LayerWeights* layer) {
    add_vector(prefix + "attn_norm.weight", &layer->attention_norm);
    if (file_.find_tensor(prefix + "attn_qkv.weight") != nullptr) {
      const std::uint64_t q = std::uint64_t{config.n_heads} * config.head_dim,
                          kv = std::uint64_t{config.n_kv_heads} * config.head_dim;
      add_matrix(prefix + "attn_qkv", &layer->query, {.rows = {.first = 0, .n = q}});
      add_matrix(prefix + "attn_qkv", &layer->key, {.rows = {.first = q, .n = kv}});
      add_matrix(prefix + "attn_qkv", &layer->value, {.rows = {.first = q + kv, .n = kv}});
    } else {
      add_matrix(prefix + "attn_q", &layer->query);
      add_matrix(prefix + "attn_k", &layer->key);
      add_matrix(prefix + "attn_v", &layer->value);
    }
    add_matrix(prefix + "attn_output", &layer->attention_output);
    add_vector(prefix + "ffn_norm.weight", &layer->ffn_norm);
    if (config.n_experts > 0) {
      add_experts(config, prefix, layer);
    } else {
      add_matrix(prefix + "ffn_gate", &layer->gate,
                 {.use = apart_ ? WeightUse::matrix : WeightUse::gate, .scales_bias = true});
      add_matrix(prefix + "ffn_up", &layer->up, {.use = WeightUse::up, .scales_bias = true});
      add_matrix(prefix + "ffn_down", &layer->down, {.scales_bias = true});
    }
    for (const Bias& bias : std::exchange(biases_, {})) {
      sources_.push_back(bias.source);
      targets_.push_back({.weight = bias.of, .is_bias = true});
    }
  }

  /// Each kind of matrix in the order of the experts: CudaExperts wants them at equal distances.
  void add_experts(const ModelConfig& config, const std::string& prefix, LayerWeights* layer) {
    add_matrix(prefix + "ffn_gate_inp", &layer->router);
    layer->experts.resize(config.n_experts);
    const std::uint64_t ffn = config.ffn_hidden, hidden = config.hidden;
    for (std::uint32_t e = 0; e < config.n_experts; e++) {
      ExpertWeights& expert = layer->experts[e];
      add_expert(prefix, kGateExperts, {.first = e * ffn, .n = ffn}, &expert.gate, WeightUse::gate);
      add_expert(prefix, kUpExperts, {.first = e * ffn, .n = ffn}, &expert.up, WeightUse::up);
    }
    for (std::uint32_t e = 0; e < config.n_experts; e++)
      add_expert(prefix, kDownExperts, {.first = e * hidden, .n = hidden}, &layer->experts[e].down,
                 WeightUse::matrix);
  }
  /// `rows`: of the stack, should there be one.
  void add_expert(const std::string& prefix, const ExpertTensor& tensor, const Rows& rows, Weight* into,
                  WeightUse use) {
    const std::string stacked = prefix + std::string(tensor.stacked);
    if (file_.find_tensor(stacked + ".weight") != nullptr) {
      add_matrix(stacked, into, {.use = use, .rows = rows});
    } else {
      const auto expert = static_cast<std::uint32_t>(rows.first / rows.n);
      add_matrix(prefix + std::string(tensor.part) + "." + std::to_string(expert), into, {.use = use});
    }
  }

  /// `name`.weight, and its scale and bias if it has them.
  void add_matrix(const std::string& name, Weight* into, const MatrixOptions& options = {}) {
    const GgufTensor& t = tensor(name + ".weight");
    const std::uint64_t rows = options.rows.n > 0 ? options.rows.n : t.dims[1];
    float scale = 1;
    if (const GgufTensor* s = file_.find_tensor(name + ".scale")) read_floats(file_, *s, 0, {&scale, 1});
    sources_.push_back({.tensor = &t,
                        .spec = {.dtype = t.dtype,
                                 .rows = static_cast<std::int64_t>(rows),
                                 .cols = static_cast<std::int64_t>(t.dims[0]),
                                 .use = options.use,
                                 .layer = layer_},
                        .first = options.rows.first});
    targets_.push_back({.weight = into, .scale = scale});
    if (const GgufTensor* bias = file_.find_tensor(name + ".bias"))
      biases_.push_back(
          {into, vector_source(*bias, options.rows.first, rows, options.scales_bias ? scale : 1.0f)});
  }
  void add_vector(const std::string& name, Weight* into) {
    const GgufTensor& t = tensor(name);
    sources_.push_back(vector_source(t, 0, t.dims[0], 1));
    targets_.push_back({.weight = into});
  }
  Source vector_source(const GgufTensor& t, std::uint64_t first, std::uint64_t n, float multiplier) const {
    return {.tensor = &t,
            .spec = {.dtype = DType::f32,
                     .rows = 1,
                     .cols = static_cast<std::int64_t>(n),
                     .use = WeightUse::vector,
                     .layer = layer_},
            .first = first,
            .multiplier = multiplier};
  }
  const GgufTensor& tensor(const std::string& name) const {
    const GgufTensor* t = file_.find_tensor(name);
    if (!t) throw Error(ErrorCode::invalid_model, "tensor '" + name + "' is missing", {{"tensor", name}});
    return *t;
  }

  const ModelSource& file_;
  const bool apart_;         // gate and up must not be fused
  std::int32_t layer_ = -1;  // of what is added
  std::vector<Source> sources_;
  std::vector<Target> targets_;
  std::vector<Bias> biases_;  // of the layer
};

void read_all(const ModelSource& file, const std::vector<Source>& sources, WeightUpload& upload,
              const LoadProgress& progress, const CancelFlag& cancel) {
  const std::span<const WeightPart> parts = upload.parts();
  std::uint64_t total = 0;
  for (const WeightPart& part : parts) total += part.bytes();

  std::atomic<std::size_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;  // guards what follows
  std::exception_ptr error;
  std::uint64_t loaded = 0;

  const auto read_parts = [&] {
    try {
      for (std::size_t i; (i = next.fetch_add(1)) < parts.size() && !failed.load();) {
        cancel.check();
        upload.fill(i, [&](const WeightRange& range, void* dst) {
          sources[range.index].read(file, range.offset, dst, range.bytes);
        });
        const std::lock_guard lock(mutex);
        loaded += parts[i].bytes();
        if (progress) progress(loaded, total);
      }
    } catch (...) {
      failed.store(true);
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
  };

  std::vector<std::thread> readers;
  const int n = std::min<int>({usable_cores(), kMaxReaders, static_cast<int>(parts.size())});
  try {
    for (int i = 1; i < n; i++) readers.emplace_back(read_parts);
  } catch (const std::system_error&) {
    // The system has no more threads: this one reads what is left.
  }
  read_parts();
  for (std::thread& r : readers) r.join();
  if (error) std::rethrow_exception(error);
}

std::vector<Weight> map_all(const ModelSource& file, const std::vector<Source>& sources,
                            std::span<const WeightSpec> specs, Backend& backend) {
  if (!file.is_mappable()) {
    throw Error(ErrorCode::invalid_argument,
                "mmap: expected a GGUF file, whose weights are used as they lie in it, found " + file.path() +
                    ", whose weights are converted while they are read; convert it, or load it without mmap",
                {{"path", file.path()}, {"format", file.format()}});
  }
  struct Mapped {
    std::vector<std::unique_ptr<FileMapping>> files;
    std::deque<std::vector<float>> converted;
  };
  const auto mapped = std::make_shared<Mapped>();
  for (const auto& part : file.files()) mapped->files.push_back(std::make_unique<FileMapping>(*part));
  std::vector<const void*> data;
  for (const Source& s : sources) {
    if (s.is_stored()) {
      data.push_back(mapped->files[s.tensor->file_index]->data() + s.tensor->offset + s.offset());
    } else {
      std::vector<float>& values = mapped->converted.emplace_back(static_cast<std::size_t>(s.spec.cols));
      s.read(file, 0, values.data(), values.size() * sizeof(float));
      data.push_back(values.data());
    }
  }
  return backend.weights().adopt(specs, data, mapped);
}

}  // namespace

std::vector<WeightSpec> weight_specs(const ModelSource& file, const ModelConfig& config, bool apart) {
  ModelWeights weights;
  return WeightList(file, config, apart, weights).specs();
}

ModelWeights load_weights(const ModelSource& file, const ModelConfig& config, Backend& backend,
                          WeightSource source, bool apart, const LoadProgress& progress,
                          const CancelFlag& cancel) {
  ModelWeights weights;
  WeightList list(file, config, apart, weights);
  const std::vector<WeightSpec> specs = list.specs();
  if (source == WeightSource::mapped) {
    list.assign(map_all(file, list.sources(), specs, backend));
  } else {
    const std::unique_ptr<WeightUpload> upload = backend.weights().upload(specs);
    read_all(file, list.sources(), *upload, progress, cancel);
    list.assign(upload->finish());
  }
  if (config.tied_output) weights.output = weights.embedding;
  for (const Source& s : list.sources()) {
    weights.bytes += s.row_bytes() * static_cast<std::uint64_t>(s.spec.rows);
    weights.parameters += static_cast<std::uint64_t>(s.spec.rows * s.spec.cols);
  }
  if (source == WeightSource::mapped && progress) progress(weights.bytes, weights.bytes);
  return weights;
}

}  // namespace cria
