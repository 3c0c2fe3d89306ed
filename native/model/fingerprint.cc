#include "model/fingerprint.h"

#include <array>
#include <string_view>
#include <type_traits>

#include "core/hash.h"

namespace cria {
namespace {

constexpr std::size_t kSampleBytes = 4096;

class Fingerprint {
 public:
  template <typename T>
    requires std::is_arithmetic_v<T>
  void add(T value) {
    hash_.update(&value, sizeof(value));
  }
  // The length first, so that a text and its successor cannot be confused with another pair.
  void add(std::string_view text) {
    add(static_cast<std::uint64_t>(text.size()));
    hash_.update(text.data(), text.size());
  }
  void add(const ModelSource& file, const GgufTensor& tensor, std::uint64_t offset, std::size_t bytes) {
    file.read(tensor, offset, sample_.data(), bytes);
    hash_.update(sample_.data(), bytes);
  }
  std::uint64_t value() const { return hash_.digest(); }

 private:
  Xxh64 hash_;
  std::array<std::uint8_t, 3 * kSampleBytes> sample_;
};

void add_config(const ModelConfig& config, Fingerprint* print) {
  print->add(config.architecture);
  for (const std::uint32_t size :
       {config.vocab_size, config.hidden, config.n_layers, config.n_heads, config.n_kv_heads, config.head_dim,
        config.ffn_hidden, config.rope_dim, static_cast<std::uint32_t>(config.rope_layout),
        static_cast<std::uint32_t>(config.tied_output)})
    print->add(size);
  if (config.n_experts > 0) {
    print->add(config.n_experts);
    print->add(config.n_experts_used);
  }
  print->add(config.rms_norm_eps);
  print->add(config.rope_base);
  // The frequencies include every scaling; its name is for display only.
  print->add(static_cast<std::uint64_t>(config.rope_inv_freq.size()));
  for (const float frequency : config.rope_inv_freq) print->add(frequency);
  if (config.rope_magnitude != 1) print->add(config.rope_magnitude);
}

void add_tensor(const ModelSource& file, const GgufTensor& tensor, Fingerprint* print) {
  print->add(tensor.name);
  print->add(static_cast<std::uint32_t>(tensor.dtype));
  print->add(tensor.n_dims);
  for (const std::uint64_t dim : tensor.dims) print->add(dim);
  if (tensor.bytes <= 3 * kSampleBytes) {
    print->add(file, tensor, 0, static_cast<std::size_t>(tensor.bytes));
    return;
  }
  const std::uint64_t last = tensor.bytes - kSampleBytes;
  for (const std::uint64_t at : {std::uint64_t{0}, last / 2, last})
    print->add(file, tensor, at, kSampleBytes);
}

}  // namespace

std::uint64_t model_fingerprint(const ModelSource& file, const ModelConfig& config) {
  Fingerprint print;
  print.add(std::string_view("cria model fingerprint 1"));  // raise the number when the recipe changes
  add_config(config, &print);
  print.add(static_cast<std::uint64_t>(file.tensors().size()));
  for (const GgufTensor& tensor : file.tensors()) add_tensor(file, tensor, &print);
  return print.value();
}

}  // namespace cria
