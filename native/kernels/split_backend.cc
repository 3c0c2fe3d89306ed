#include "kernels/split_backend.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace cria {
namespace {

/// Weights on their way to both sides. The parts of the host come first.
class SplitUpload final : public WeightUpload {
 public:
  struct Side {
    std::unique_ptr<WeightUpload> upload;
    std::vector<std::size_t> indices;  // of its weights among all
  };
  /// `finished` learns which weights are the device's.
  SplitUpload(Side host, Side device, std::function<void(std::span<const Weight>)> finished)
      : sides_{std::move(host), std::move(device)}, finished_(std::move(finished)) {
    for (const Side& side : sides_)
      for (WeightPart part : side.upload->parts()) {
        for (std::size_t i = 0; i < part.n_ranges; i++)
          part.ranges[i].index = side.indices[part.ranges[i].index];
        parts_.push_back(part);
      }
  }

  std::span<const WeightPart> parts() const override { return parts_; }

  void fill(std::size_t part, const std::function<void(const WeightRange&, void*)>& read) override {
    const std::size_t of_host = sides_[0].upload->parts().size();
    const Side& side = sides_[part < of_host ? 0 : 1];
    side.upload->fill(part < of_host ? part : part - of_host, [&](WeightRange range, void* dst) {
      range.index = side.indices[range.index];
      read(range, dst);
    });
  }

  std::vector<Weight> finish() override {
    std::vector<Weight> weights(sides_[0].indices.size() + sides_[1].indices.size());
    for (const Side& side : sides_) {
      const std::vector<Weight> own = side.upload->finish();
      for (std::size_t i = 0; i < own.size(); i++) weights[side.indices[i]] = own[i];
      if (&side == &sides_[1]) finished_(own);
    }
    return weights;
  }

 private:
  const std::array<Side, 2> sides_;
  const std::function<void(std::span<const Weight>)> finished_;
  std::vector<WeightPart> parts_;
};

/// The decoder's pointers to activations are the host's. A layer of the device computes in a second set of
/// them, and x alone crosses: to the device before its first layer, back before the logits.
class SplitBackend final : public Backend {
 public:
  SplitBackend(std::unique_ptr<Backend> host, std::unique_ptr<Backend> device, std::int32_t n_layers,
               std::int32_t gpu_layers, const std::string& reason)
      : host_(std::move(host)),
        device_(std::move(device)),
        first_(n_layers - gpu_layers),
        n_layers_(n_layers) {
    const BackendInfo &h = host_->info(), &d = device_->info();
    if (d.page_tokens % h.page_tokens != 0)
      throw Error(ErrorCode::internal, "pages of " + std::to_string(d.page_tokens) +
                                           " tokens are not made of " + std::to_string(h.page_tokens));
    ratio_ = d.page_tokens / h.page_tokens;
    info_.device = d.device;
    info_.device_reason = reason + "; " + d.device_reason + "; the other layers on the CPU, " + h.isa;
    info_.isa = d.isa + ", " + h.isa;
    info_.threads = h.threads;
    info_.page_tokens = d.page_tokens;
    info_.kv_layout = h.kv_layout + "+" + d.kv_layout + "@" + std::to_string(first_);
    info_.max_batch_tokens = std::min(h.max_batch_tokens, d.max_batch_tokens);
    info_.prefill_chunk = std::min(h.prefill_chunk, d.prefill_chunk);
    info_.gpu_layers = gpu_layers;
  }

  const BackendInfo& info() const override { return info_; }

  /// As if all layers lay on the side that has less for each of its own.
  std::size_t free_memory() const override {
    const auto n = static_cast<std::size_t>(n_layers_), first = static_cast<std::size_t>(first_);
    return std::min(host_->free_memory() / first, device_->free_memory() / (n - first)) * n;
  }

  std::uint64_t weight_bytes(std::span<const WeightSpec> specs) const override {
    const auto [host, device] = divide(specs);
    return host_->weight_bytes(host.specs) + device_->weight_bytes(device.specs);
  }

  std::unique_ptr<WeightUpload> upload_weights(std::span<const WeightSpec> specs) override {
    auto [host, device] = divide(specs);
    return std::make_unique<SplitUpload>(
        SplitUpload::Side{host_->upload_weights(host.specs), std::move(host.indices)},
        SplitUpload::Side{device_->upload_weights(device.specs), std::move(device.indices)},
        [this](std::span<const Weight> weights) { note_device_weights(weights); });
  }

  /// The host's weights stay where they lie, the device's are copied.
  std::vector<Weight> adopt_weights(std::span<const WeightSpec> specs, std::span<const void* const> data,
                                    std::shared_ptr<const void> owner) override {
    const auto [host, device] = divide(specs);
    std::vector<const void*> host_data;
    for (const std::size_t i : host.indices) host_data.push_back(data[i]);
    const std::vector<Weight> adopted = host_->adopt_weights(host.specs, host_data, std::move(owner));
    const std::unique_ptr<WeightUpload> upload = device_->upload_weights(device.specs);
    for (std::size_t part = 0; part < upload->parts().size(); part++)
      upload->fill(part, [&, &indices = device.indices](const WeightRange& range, void* dst) {
        std::memcpy(dst, static_cast<const std::byte*>(data[indices[range.index]]) + range.offset,
                    range.bytes);
      });
    const std::vector<Weight> uploaded = upload->finish();
    note_device_weights(uploaded);
    std::vector<Weight> weights(specs.size());
    for (std::size_t i = 0; i < adopted.size(); i++) weights[host.indices[i]] = adopted[i];
    for (std::size_t i = 0; i < uploaded.size(); i++) weights[device.indices[i]] = uploaded[i];
    return weights;
  }

  // ---- the cache: a page is one of the device or `ratio_` that follow each other on the host ----

  std::size_t kv_page_bytes(const AttentionShape& shape, DType kv_dtype) const override {
    return std::max(static_cast<std::size_t>(ratio_) * host_->kv_page_bytes(shape, kv_dtype),
                    device_->kv_page_bytes(shape, kv_dtype));
  }

  std::vector<KvLayer> allocate_kv(const AttentionShape& shape, DType kv_dtype, std::int32_t n_layers,
                                   std::int32_t n_pages) override {
    if (n_layers != n_layers_) throw Error(ErrorCode::internal, "a KV cache of another number of layers");
    if (n_pages > INT32_MAX / ratio_)
      throw Error(ErrorCode::invalid_argument, "kvMemory: expected at most " +
                                                   std::to_string(INT32_MAX / ratio_) + " pages, found " +
                                                   std::to_string(n_pages));
    layer_page_bytes_ = kv_page_bytes(shape, kv_dtype);
    kv_ = host_->allocate_kv(shape, kv_dtype, first_, n_pages * ratio_);
    const std::vector<KvLayer> device = device_->allocate_kv(shape, kv_dtype, n_layers - first_, n_pages);
    kv_.insert(kv_.end(), device.begin(), device.end());
    std::vector<KvLayer> layers = kv_;
    for (std::int32_t i = 0; i < first_; i++) {
      layers[static_cast<std::size_t>(i)].page_stride *= static_cast<std::size_t>(ratio_);
      layers[static_cast<std::size_t>(i)].page_tokens *= ratio_;
    }
    return layers;
  }

  void copy_kv_page(std::span<const KvLayer> layers, std::int32_t from, std::int32_t to) override {
    std::vector<KvLayer> own[2];
    for (const KvLayer& layer : layers) own[on_device(layer)].push_back(own_layer(layer));
    for (std::int32_t i = 0; i < ratio_; i++) host_->copy_kv_page(own[0], from * ratio_ + i, to * ratio_ + i);
    device_->copy_kv_page(own[1], from, to);
  }

  void read_kv_page(const AttentionShape& shape, const KvLayer& layer, std::int32_t page,
                    std::int32_t n_tokens, std::byte* to) override {
    const KvLayer& own = own_layer(layer);
    std::byte* at = to;
    if (on_device(layer)) {
      device_->read_kv_page(shape, own, page, n_tokens, at);
      at += own.page_stride;
    } else {
      for (std::int32_t i = 0; i < ratio_; i++, at += own.page_stride)
        host_->read_kv_page(shape, own, page * ratio_ + i, std::max(0, n_tokens - i * own.page_tokens), at);
    }
    std::memset(at, 0, static_cast<std::size_t>(to + layer_page_bytes_ - at));
  }

  void write_kv_page(const KvLayer& layer, std::int32_t page, const std::byte* from) override {
    const KvLayer& own = own_layer(layer);
    if (on_device(layer)) {
      device_->write_kv_page(own, page, from);
    } else {
      for (std::int32_t i = 0; i < ratio_; i++, from += own.page_stride)
        host_->write_kv_page(own, page * ratio_ + i, from);
    }
  }

  // ---- activations: the caller's are the host's ----

  float* allocate_activations(std::size_t n) override {
    float* const host = host_->allocate_activations(n);
    activations_.push_back({host, device_->allocate_activations(n)});
    return host;
  }
  const float* fetch(const float* values, std::size_t n) override { return host_->fetch(values, n); }
  void store(float* values, const float* from, std::size_t n) override { host_->store(values, from, n); }

  // ---- passes ----

  void prepare_passes(const PassLimits& limits) override {
    PassLimits of_host = limits;
    of_host.max_pages *= ratio_;
    host_->prepare_passes(of_host);
    device_->prepare_passes(limits);
  }

  /// The device's part of a pass begins with its first layer, and may be recorded there; so the ops are to be
  /// called in any case.
  bool begin_pass(const Pass& pass) override {
    pass_ = pass;
    host_batch_ = *pass.batch;
    const auto n = static_cast<std::size_t>(host_batch_.n_sequences) *
                   static_cast<std::size_t>(host_batch_.block_table_stride);
    block_table_.clear();
    for (std::size_t i = 0; i < n; i++)
      for (std::int32_t k = 0; k < ratio_; k++)
        block_table_.push_back(pass.batch->block_table[i] * ratio_ + k);
    host_batch_.block_table = block_table_.data();
    host_batch_.block_table_stride *= ratio_;
    on_device_ = device_calls_ops_ = false;
    host_->begin_pass({&host_batch_, pass.logit_rows, pass.n_logit_rows});
    return true;
  }
  void end_pass() override {
    leave_device();
    host_->end_pass();
  }
  void cancel_pass() noexcept override {
    on_device_ = false;
    device_->cancel_pass();
    host_->cancel_pass();
  }

  void embed(const EmbedArgs& args) override {
    EmbedArgs own = args;
    own.batch = &host_batch_;
    host_->embed(own);
  }
  void attention_input(const AttentionInputArgs& args) override {
    AttentionInputArgs own = args;
    own.kv = own_layer(args.kv);
    if (!on_device(args.kv)) {
      own.batch = &host_batch_;
      host_->attention_input(own);
      return;
    }
    if (!on_device_) enter_device(args.x, args.layer->query.cols);
    if (!device_calls_ops_) return;
    own.x = device_of(args.x);
    own.q = device_of(args.q);
    device_->attention_input(own);
  }
  void paged_attention(const PagedAttentionArgs& args) override {
    PagedAttentionArgs own = args;
    own.kv = own_layer(args.kv);
    if (!on_device(args.kv)) {
      own.batch = &host_batch_;
      host_->paged_attention(own);
    } else if (device_calls_ops_) {
      own.q = device_of(args.q);
      own.out = device_of(args.out);
      device_->paged_attention(own);
    }
  }
  void project_residual(const ProjectResidualArgs& args) override {
    if (!on_device(args.weight)) {
      host_->project_residual(args);
    } else if (device_calls_ops_) {
      ProjectResidualArgs own = args;
      own.h = device_of(args.h);
      own.x = device_of(args.x);
      device_->project_residual(own);
    }
  }
  void swiglu(const SwigluArgs& args) override {
    if (!on_device(args.layer->gate)) {
      host_->swiglu(args);
    } else if (device_calls_ops_) {
      SwigluArgs own = args;
      own.x = device_of(args.x);
      own.h = device_of(args.h);
      device_->swiglu(own);
    }
  }
  /// Comes in the last layer, which is the device's.
  void gather_rows(const GatherRowsArgs& args) override {
    if (!device_calls_ops_) return;
    GatherRowsArgs own = args;
    own.from = device_of(args.from);
    own.to = device_of(args.to);
    device_->gather_rows(own);
  }
  void logits(const LogitsArgs& args) override {
    leave_device();
    const auto n = static_cast<std::size_t>(args.n_rows) * static_cast<std::size_t>(args.norm.cols);
    const Twins& x = twins_of(args.x);
    host_->store(x.host, device_->fetch(x.device, n), n);
    host_->logits(args);
  }
  /// The host's: nothing that scripts call is divided.
  ElementaryOps& elementary() override { return host_->elementary(); }

  void sample(const SampleArgs& args) override { host_->sample(args); }

 private:
  struct Twins {
    float *host, *device;
  };
  struct Share {
    std::vector<WeightSpec> specs;
    std::vector<std::size_t> indices;
  };
  std::pair<Share, Share> divide(std::span<const WeightSpec> specs) const {
    std::pair<Share, Share> shares;
    for (std::size_t i = 0; i < specs.size(); i++) {
      Share& share = specs[i].layer >= first_ ? shares.second : shares.first;
      share.specs.push_back(specs[i]);
      share.indices.push_back(i);
    }
    return shares;
  }

  void note_device_weights(std::span<const Weight> weights) {
    for (const Weight& w : weights) device_weights_.push_back(w.data);
    std::ranges::sort(device_weights_);
  }
  bool on_device(const Weight& weight) const {
    return std::ranges::binary_search(device_weights_, weight.data);
  }

  std::size_t index_of(const KvLayer& layer) const {
    for (std::size_t i = 0; i < kv_.size(); i++)
      if (kv_[i].pages == layer.pages) return i;
    throw Error(ErrorCode::internal, "a layer of another KV cache");
  }
  bool on_device(const KvLayer& layer) const { return index_of(layer) >= static_cast<std::size_t>(first_); }
  const KvLayer& own_layer(const KvLayer& layer) const { return kv_[index_of(layer)]; }

  const Twins& twins_of(const float* host) const {
    for (const Twins& twins : activations_)
      if (twins.host == host) return twins;
    throw Error(ErrorCode::internal, "activations of another backend");
  }
  float* device_of(const float* host) const { return twins_of(host).device; }

  void enter_device(const float* x, std::int64_t hidden) {
    device_->store(device_of(x), x,
                   static_cast<std::size_t>(pass_.batch->n_tokens) * static_cast<std::size_t>(hidden));
    device_calls_ops_ = device_->begin_pass(pass_);
    on_device_ = true;
  }
  void leave_device() {
    if (std::exchange(on_device_, false)) device_->end_pass();
  }

  const std::unique_ptr<Backend> host_, device_;
  const std::int32_t first_, n_layers_;  // the device's first layer; all
  std::int32_t ratio_ = 1;               // pages of the host in one of the device
  BackendInfo info_;
  std::vector<const void*> device_weights_;  // their addresses, sorted
  std::vector<KvLayer> kv_;                  // as each side knows them
  std::size_t layer_page_bytes_ = 0;
  std::vector<Twins> activations_;

  // The pass.
  Pass pass_{};
  Batch host_batch_;
  std::vector<std::int32_t> block_table_;
  bool on_device_ = false;         // the device's part is under way
  bool device_calls_ops_ = false;  // and is not a recorded one
};

// Beside weights and cache: what the driver takes, activations, a workspace.
constexpr std::uint64_t kRoomBeside = std::uint64_t{768} << 20;

}  // namespace

DeviceFit fit_of(const Backend& device, const BackendOptions& options) {
  DeviceFit fit;
  fit.available = device.free_memory();
  const std::uint64_t room = std::min(kRoomBeside, fit.available / 8);
  const auto n = static_cast<std::uint64_t>(std::max(1, options.n_layers));
  fit.needed = device.weight_bytes(options.weights) + options.kv_bytes + room;
  if (fit.needed <= fit.available) {
    fit.layers = options.n_layers;
    return fit;
  }
  std::vector<WeightSpec> last;
  for (std::int32_t layers = 1; layers < options.n_layers; layers++) {
    last.clear();
    for (const WeightSpec& s : options.weights)
      if (s.layer >= options.n_layers - layers) last.push_back(s);
    const std::uint64_t cache = options.kv_bytes / n * static_cast<std::uint64_t>(layers);
    if (device.weight_bytes(last) + cache + room > fit.available) break;
    fit.layers = layers;
  }
  return fit;
}

std::unique_ptr<Backend> create_split_backend(std::unique_ptr<Backend> host, std::unique_ptr<Backend> device,
                                              std::int32_t n_layers, std::int32_t gpu_layers,
                                              const std::string& reason) {
  return std::make_unique<SplitBackend>(std::move(host), std::move(device), n_layers, gpu_layers, reason);
}

}  // namespace cria
