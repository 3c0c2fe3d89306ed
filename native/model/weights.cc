#include "model/weights.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <string>
#include <thread>

#include "core/error.h"
#include "core/huge_memory.h"
#include "io/file_mapping.h"

namespace cria {
namespace {

constexpr int kMaxReaders = 4;  // enough to fill the page cache's or an SSD's bandwidth

struct Source {
  const GgufTensor* tensor;
  WeightSpec spec;
};

/// Which tensor fills which member, collected first so that the upload can size its memory.
class WeightList {
 public:
  /// Keeps pointers into `weights`.
  WeightList(const ModelSource& file, const ModelConfig& config, ModelWeights& weights) : file_(file) {
    weights.layers.resize(config.n_layers);
    add("token_embd.weight", &weights.embedding);
    for (std::uint32_t i = 0; i < config.n_layers; i++) {
      LayerWeights& layer = weights.layers[i];
      layer_ = static_cast<std::int32_t>(i);
      const std::string prefix = "blk." + std::to_string(i) + ".";
      add(prefix + "attn_norm.weight", &layer.attention_norm, WeightUse::vector);
      add(prefix + "attn_q.weight", &layer.query);
      add(prefix + "attn_k.weight", &layer.key);
      add(prefix + "attn_v.weight", &layer.value);
      add(prefix + "attn_output.weight", &layer.attention_output);
      add(prefix + "ffn_norm.weight", &layer.ffn_norm, WeightUse::vector);
      add(prefix + "ffn_gate.weight", &layer.gate, WeightUse::gate);
      add(prefix + "ffn_up.weight", &layer.up, WeightUse::up);
      add(prefix + "ffn_down.weight", &layer.down);
    }
    layer_ = -1;
    add("output_norm.weight", &weights.output_norm, WeightUse::vector);
    if (!config.tied_output) add("output.weight", &weights.output);
  }

  const std::vector<Source>& sources() const { return sources_; }
  std::vector<WeightSpec> specs() const {
    std::vector<WeightSpec> specs;
    for (const Source& s : sources_) specs.push_back(s.spec);
    return specs;
  }
  void assign(const std::vector<Weight>& weights) {
    for (std::size_t i = 0; i < targets_.size(); i++) *targets_[i] = weights[i];
  }

 private:
  void add(const std::string& name, Weight* into, WeightUse use = WeightUse::matrix) {
    const GgufTensor* t = file_.find_tensor(name);
    if (!t) throw Error(ErrorCode::invalid_model, "tensor '" + name + "' is missing", {{"tensor", name}});
    const auto rows = static_cast<std::int64_t>(t->dims[1]), cols = static_cast<std::int64_t>(t->dims[0]);
    sources_.push_back({t, {t->dtype, rows, cols, use, layer_}});
    targets_.push_back(into);
  }

  const ModelSource& file_;
  std::int32_t layer_ = -1;  // of what is added
  std::vector<Source> sources_;
  std::vector<Weight*> targets_;
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
          const GgufTensor& tensor = *sources[range.index].tensor;
          file.read(tensor, range.offset, dst, range.bytes);
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
  auto mappings = std::make_shared<std::vector<std::unique_ptr<FileMapping>>>();
  for (const auto& part : file.files()) mappings->push_back(std::make_unique<FileMapping>(*part));
  std::vector<const void*> data;
  for (const Source& s : sources)
    data.push_back((*mappings)[s.tensor->file_index]->data() + s.tensor->offset);
  return backend.weights().adopt(specs, data, mappings);
}

}  // namespace

std::vector<WeightSpec> weight_specs(const ModelSource& file, const ModelConfig& config) {
  ModelWeights weights;
  return WeightList(file, config, weights).specs();
}

ModelWeights load_weights(const ModelSource& file, const ModelConfig& config, Backend& backend,
                          WeightSource source, const LoadProgress& progress, const CancelFlag& cancel) {
  ModelWeights weights;
  WeightList list(file, config, weights);
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
    weights.bytes += s.tensor->bytes;
    weights.parameters += s.tensor->elements();
  }
  if (source == WeightSource::mapped && progress) progress(weights.bytes, weights.bytes);
  return weights;
}

}  // namespace cria
