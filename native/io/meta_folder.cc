#include "io/meta_folder.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "io/file_error.h"
#include "io/llama_tensors.h"
#include "io/meta_params.h"
#include "io/torch_checkpoint.h"

namespace cria {
namespace {

constexpr std::uint64_t kMaxParamsBytes = std::uint64_t{1} << 20;
constexpr std::size_t kMaxShards = 16;

/// Puts the tensors of all shards together.
class MetaTensors {
 public:
  MetaTensors(const std::vector<std::vector<StoredTensor>>& shards, const MetaParams& params,
              AssembledSource* source)
      : params_(params), source_(*source) {
    for (const std::vector<StoredTensor>& shard : shards) {
      auto& names = shards_.emplace_back();
      for (const StoredTensor& tensor : shard) names.emplace(tensor.name, Entry{&tensor, false});
    }
  }

  void add_all() {
    add(kEmbeddingName, "", "");
    for (std::uint64_t layer = 0; layer < params_.n_layers; ++layer) {
      const std::string number = std::to_string(layer);
      for (const LlamaTensorName& name : kLayerNames)
        add(name, "layers." + number + ".", "blk." + number + ".");
    }
    add(kOutputNormName, "", "");
    add(kOutputName, "", "");
    check_unused();
  }

 private:
  struct Entry {
    const StoredTensor* tensor;
    bool used;
  };

  void add(const LlamaTensorName& name, const std::string& meta_prefix, const std::string& gguf_prefix) {
    const std::string from = meta_prefix + std::string(name.meta) + ".weight";
    std::vector<StoredTensor> parts;
    for (auto& shard : shards_) parts.push_back(require(shard, from));
    const StoredTensor& first = parts.front();
    for (const StoredTensor& part : parts) {
      if (part.shape != first.shape || part.type != first.type)
        fail(from,
             "shape " + shape_text(first.shape) + " of " + std::string(name_of(first.type)) +
                 " in every shard",
             shape_text(part.shape) + " of " + std::string(name_of(part.type)));
    }
    const DType dtype = dtype_of(first, source_.path());
    if (first.type == StoredType::f8_e4m3) fail(from, "F32, F16 or BF16", "F8_E4M3");
    const std::string to = gguf_prefix + std::string(name.gguf) + ".weight";
    if (name.split == MetaSplit::none) {
      if (first.shape.size() != 1) fail(from, "1 dimension", "shape " + shape_text(first.shape));
      return source_.add_tensor(to, DType::f32, {first.shape[0]}, {.parts = {first}});
    }
    if (first.shape.size() != 2) fail(from, "2 dimensions", "shape " + shape_text(first.shape));
    const std::uint64_t rows = first.shape[0], cols = first.shape[1], n = parts.size();
    const bool by_cols =
        name.split == MetaSplit::cols || (name.split == MetaSplit::embedding && n > 1 && cols != params_.dim);
    Assembly assembly{.parts = std::move(parts),
                      .join = by_cols ? Assembly::Join::cols : Assembly::Join::rows};
    source_.add_tensor(to, dtype, {by_cols ? cols * n : cols, by_cols ? rows : rows * n},
                       std::move(assembly));
  }

  const StoredTensor& require(std::map<std::string_view, Entry>& shard, const std::string& name) const {
    const auto at = shard.find(name);
    if (at == shard.end()) fail(name, "a tensor that params.json implies", "no such tensor");
    at->second.used = true;
    return *at->second.tensor;
  }

  /// A tensor that nothing used may change what the model computes. RoPE's frequencies follow from the
  /// parameters.
  void check_unused() const {
    for (const auto& shard : shards_) {
      for (const auto& [name, entry] : shard) {
        if (entry.used || name.ends_with("rope.freqs")) continue;
        throw Error(
            ErrorCode::unsupported_model,
            source_.path() + ": tensor " + quote(name) + ": a model with this tensor is not supported",
            {{"path", source_.path()}, {"tensor", name}});
      }
    }
  }

  [[noreturn]] void fail(std::string_view tensor, const std::string& expected,
                         const std::string& found) const {
    throw Error(ErrorCode::invalid_model,
                source_.path() + ": tensor " + quote(tensor) + ": expected " + expected + ", found " + found,
                {{"path", source_.path()}, {"tensor", tensor}, {"expected", expected}, {"found", found}});
  }

  std::vector<std::map<std::string_view, Entry>> shards_;
  const MetaParams& params_;
  AssembledSource& source_;
};

std::string shard_name(std::size_t number) {
  char name[32];
  std::snprintf(name, sizeof(name), "/consolidated.%02u.pth", static_cast<unsigned>(number));
  return name;
}

/// consolidated.00.pth and those that follow it.
std::vector<std::shared_ptr<const File>> open_shards(const std::string& folder, const FileOpener& open) {
  std::vector<std::shared_ptr<const File>> files = {open(folder + shard_name(0))};
  while (auto file = open_if_exists(open, folder + shard_name(files.size()))) {
    if (files.size() >= kMaxShards) {
      throw Error(ErrorCode::unsupported_file,
                  folder + ": expected at most " + std::to_string(kMaxShards) + " shards, found more",
                  {{"path", folder}, {"expected", kMaxShards}});
    }
    files.push_back(std::move(file));
  }
  return files;
}

}  // namespace

std::unique_ptr<AssembledSource> open_meta_folder(const std::string& folder, const FileOpener& open) {
  const std::shared_ptr<const File> params_file = open(folder + "/params.json");
  const JsonDocument params =
      JsonDocument::parse(read_text(*params_file, kMaxParamsBytes), params_file->path());
  auto source = std::make_unique<AssembledSource>(folder, "meta");
  const MetaParams read = read_meta_params(params.root(), source.get());
  std::vector<std::shared_ptr<const File>> files = open_shards(folder, open);
  std::vector<std::vector<StoredTensor>> shards;
  for (std::size_t i = 0; i < files.size(); ++i)
    shards.push_back(read_torch_checkpoint(*files[i], static_cast<std::uint32_t>(i)));
  source->set_files(std::move(files));
  MetaTensors(shards, read, source.get()).add_all();
  source->finish();
  return source;
}

}  // namespace cria
