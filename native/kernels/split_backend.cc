#include "kernels/split_backend.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "kernels/split_kv_cache.h"
#include "kernels/split_weights.h"

namespace cria {
namespace {

/// Every buffer exists on both sides. The caller's pointers are the host's; a layer of the device computes in
/// their twins.
class SplitActivations final : public Activations {
 public:
  SplitActivations(Activations& host, Activations& device) : host_(host), device_(device) {}

  float* allocate(std::size_t n) override {
    float* const host = host_.allocate(n);
    twins_.push_back({.host = host, .device = device_.allocate(n)});
    return host;
  }
  const float* fetch(const float* values, std::size_t n) override { return host_.fetch(values, n); }
  void store(float* values, const float* from, std::size_t n) override { host_.store(values, from, n); }

  float* on_device(const float* host) const {
    for (const Twins& twins : twins_)
      if (twins.host == host) return twins.device;
    throw Error(ErrorCode::internal, "activations of another backend");
  }
  void to_device(const float* host, std::size_t n) { device_.store(on_device(host), host, n); }
  void to_host(float* host, std::size_t n) { host_.store(host, device_.fetch(on_device(host), n), n); }

 private:
  struct Twins {
    float *host, *device;
  };
  Activations& host_;
  Activations& device_;
  std::vector<Twins> twins_;
};

/// Ops of a layer run where the layer lies. Only x crosses: to the device before its first layer, back before
/// the logits. The device's part of a pass begins with its first layer, and may be a recorded one.
class SplitOps final : public Ops, public Passes {
 public:
  SplitOps(Backend& host, Backend& device, SplitActivations& activations, std::int32_t first_device_layer,
           std::int32_t page_ratio)
      : host_(host),
        device_(device),
        activations_(activations),
        first_device_layer_(first_device_layer),
        page_ratio_(page_ratio) {}

  // ---- passes ----

  void prepare(const PassLimits& limits) override {
    PassLimits of_host = limits;
    of_host.max_pages *= page_ratio_;
    host_.passes().prepare(of_host);
    device_.passes().prepare(limits);
  }

  bool begin(const Pass& pass) override {
    pass_ = pass;
    host_batch_ = *pass.batch;
    const auto n = static_cast<std::size_t>(host_batch_.n_sequences) *
                   static_cast<std::size_t>(host_batch_.block_table_stride);
    block_table_.clear();
    for (std::size_t i = 0; i < n; i++)
      for (std::int32_t k = 0; k < page_ratio_; k++)
        block_table_.push_back(pass.batch->block_table[i] * page_ratio_ + k);
    host_batch_.block_table = block_table_.data();
    host_batch_.block_table_stride *= page_ratio_;
    on_device_ = device_calls_ops_ = false;
    host_.passes().begin(
        {.batch = &host_batch_, .logit_rows = pass.logit_rows, .n_logit_rows = pass.n_logit_rows});
    return true;
  }
  void end() override {
    leave_device();
    host_.passes().end();
  }
  void cancel() noexcept override {
    on_device_ = false;
    device_.passes().cancel();
    host_.passes().cancel();
  }

  // ---- ops ----

  void embed(const EmbedArgs& args) override {
    EmbedArgs own = args;
    own.batch = &host_batch_;
    host_.ops().embed(own);
  }
  void attention_input(const AttentionInputArgs& args) override {
    AttentionInputArgs own = args;
    if (!is_device_layer(args.layer)) {
      own.batch = &host_batch_;
      host_.ops().attention_input(own);
      return;
    }
    if (!on_device_) enter_device(args.x, args.weights->query.cols);
    if (!device_calls_ops_) return;
    own.x = activations_.on_device(args.x);
    own.q = activations_.on_device(args.q);
    device_.ops().attention_input(own);
  }
  void paged_attention(const PagedAttentionArgs& args) override {
    PagedAttentionArgs own = args;
    if (!is_device_layer(args.layer)) {
      own.batch = &host_batch_;
      host_.ops().paged_attention(own);
    } else if (device_calls_ops_) {
      own.q = activations_.on_device(args.q);
      own.out = activations_.on_device(args.out);
      device_.ops().paged_attention(own);
    }
  }
  void project_residual(const ProjectResidualArgs& args) override {
    if (!is_device_layer(args.layer)) {
      host_.ops().project_residual(args);
    } else if (device_calls_ops_) {
      ProjectResidualArgs own = args;
      own.h = activations_.on_device(args.h);
      own.x = activations_.on_device(args.x);
      device_.ops().project_residual(own);
    }
  }
  void swiglu(const SwigluArgs& args) override {
    if (!is_device_layer(args.layer)) {
      host_.ops().swiglu(args);
    } else if (device_calls_ops_) {
      SwigluArgs own = args;
      own.x = activations_.on_device(args.x);
      own.h = activations_.on_device(args.h);
      device_.ops().swiglu(own);
    }
  }
  void experts(const ExpertsArgs& args) override {
    if (!is_device_layer(args.layer)) {
      host_.ops().experts(args);
    } else if (device_calls_ops_) {
      ExpertsArgs own = args;
      own.x = activations_.on_device(args.x);
      device_.ops().experts(own);
    }
  }
  void gather_rows(const GatherRowsArgs& args) override {
    if (!is_device_layer(args.layer)) {
      host_.ops().gather_rows(args);
    } else if (device_calls_ops_) {
      GatherRowsArgs own = args;
      own.from = activations_.on_device(args.from);
      own.to = activations_.on_device(args.to);
      device_.ops().gather_rows(own);
    }
  }
  void logits(const LogitsArgs& args) override {
    leave_device();
    activations_.to_host(const_cast<float*>(args.x),
                         static_cast<std::size_t>(args.n_rows) * static_cast<std::size_t>(args.norm.cols));
    host_.ops().logits(args);
  }
  void sample(const SampleArgs& args) override { host_.ops().sample(args); }

 private:
  bool is_device_layer(std::int32_t layer) const { return layer >= first_device_layer_; }

  void enter_device(const float* x, std::int64_t hidden) {
    activations_.to_device(
        x, static_cast<std::size_t>(pass_.batch->n_tokens) * static_cast<std::size_t>(hidden));
    device_calls_ops_ = device_.passes().begin(pass_);
    on_device_ = true;
  }
  void leave_device() {
    if (std::exchange(on_device_, false)) device_.passes().end();
  }

  Backend& host_;
  Backend& device_;
  SplitActivations& activations_;
  const std::int32_t first_device_layer_, page_ratio_;

  // The pass.
  Pass pass_{};
  Batch host_batch_;
  std::vector<std::int32_t> block_table_;
  bool on_device_ = false;         // the device's part is under way
  bool device_calls_ops_ = false;  // and is not a recorded one
};

/// Pages of the host in one of the device.
std::int32_t page_ratio(const BackendInfo& host, const BackendInfo& device) {
  if (device.page_tokens % host.page_tokens != 0)
    throw Error(ErrorCode::internal, "pages of " + std::to_string(device.page_tokens) +
                                         " tokens are not a multiple of " + std::to_string(host.page_tokens));
  return device.page_tokens / host.page_tokens;
}

class SplitBackend final : public Backend {
 public:
  SplitBackend(std::unique_ptr<Backend> host, std::unique_ptr<Backend> device, std::int32_t n_layers,
               std::int32_t gpu_layers, const std::string& reason)
      : host_(std::move(host)),
        device_(std::move(device)),
        n_host_layers_(n_layers - gpu_layers),
        gpu_layers_(gpu_layers),
        page_ratio_(page_ratio(host_->info(), device_->info())) {
    const BackendInfo &h = host_->info(), &d = device_->info();
    info_.device = d.device;
    info_.device_reason = reason + "; " + d.device_reason + "; the other layers on the CPU, " + h.isa;
    info_.isa = d.isa + ", " + h.isa;
    info_.threads = h.threads;
    info_.page_tokens = d.page_tokens;
    info_.kv_layout = h.kv_layout + "+" + d.kv_layout + "@" + std::to_string(n_host_layers_);
    info_.max_batch_tokens = std::min(h.max_batch_tokens, d.max_batch_tokens);
    info_.prefill_chunk = std::min(h.prefill_chunk, d.prefill_chunk);
    info_.gpu_layers = gpu_layers;
  }

  const BackendInfo& info() const override { return info_; }

  /// As if all layers lay on the side that has less room for each of its own.
  std::size_t free_memory() const override {
    const auto host_layers = static_cast<std::size_t>(n_host_layers_),
               device_layers = static_cast<std::size_t>(gpu_layers_);
    return std::min(host_->free_memory() / host_layers, device_->free_memory() / device_layers) *
           (host_layers + device_layers);
  }

  WeightStore& weights() override { return weights_; }
  KvAllocator& kv() override { return kv_; }
  Activations& activations() override { return activations_; }
  Passes& passes() override { return ops_; }
  Ops& ops() override { return ops_; }
  /// The host's: scripts use no divided backend.
  ElementaryOps& elementary() override { return host_->elementary(); }

 private:
  const std::unique_ptr<Backend> host_, device_;
  const std::int32_t n_host_layers_, gpu_layers_, page_ratio_;
  BackendInfo info_;
  SplitWeights weights_{host_->weights(), device_->weights(), n_host_layers_};
  SplitKvAllocator kv_{host_->kv(), device_->kv(), n_host_layers_, page_ratio_};
  SplitActivations activations_{host_->activations(), device_->activations()};
  SplitOps ops_{*host_, *device_, activations_, n_host_layers_, page_ratio_};
};

// What the driver, activations and workspaces take besides weights and cache.
constexpr std::uint64_t kReservedBytes = std::uint64_t{768} << 20;

}  // namespace

DeviceFit fit_of(Backend& device, const BackendOptions& options) {
  DeviceFit fit;
  fit.available = device.free_memory();
  const std::uint64_t room = std::min(kReservedBytes, fit.available / 8);
  const auto n = static_cast<std::uint64_t>(std::max(1, options.n_layers));
  fit.needed = device.weights().bytes(options.weights) + options.kv_bytes + room;
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
    if (device.weights().bytes(last) + cache + room > fit.available) break;
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
