#include "io/hf_folder.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "io/file_error.h"
#include "io/hf_chat_templates.h"
#include "io/hf_config.h"
#include "io/hf_generation_config.h"
#include "io/hf_quantization.h"
#include "io/hf_tensors.h"
#include "io/safetensors.h"
#include "io/torch_checkpoint.h"

namespace cria {
namespace {

constexpr std::uint64_t kMaxConfigBytes = std::uint64_t{16} << 20;
constexpr std::uint64_t kMaxIndexBytes = std::uint64_t{64} << 20;
// Bounds the number of open files; the largest folders have about 200.
constexpr std::size_t kMaxShards = 1024;
/// How weights may be stored; transformers prefers the first.
struct WeightFormat {
  std::string_view file, index, extension;
  std::vector<StoredTensor> (*read)(const File& file, std::uint32_t file_index);
};

constexpr WeightFormat kFormats[] = {
    {"model.safetensors", "model.safetensors.index.json", ".safetensors", read_safetensors},
    {"pytorch_model.bin", "pytorch_model.bin.index.json", ".bin", read_torch_checkpoint},
};

std::string join(const std::string& folder, std::string_view name) {
  return folder + "/" + std::string(name);
}

/// Whether `name` is that of a file in the folder itself.
bool is_plain_name(std::string_view name) {
  return !name.empty() && name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos &&
         name != "." && name != "..";
}

/// The names of the shards, in the order of their names, and the shard of each tensor.
struct ShardIndex {
  std::vector<std::string> shards;
  std::vector<std::pair<std::string, std::string>> tensors;  // tensor, shard
};

ShardIndex read_index(const File& file, const WeightFormat& format) {
  const JsonDocument document = JsonDocument::parse(read_text(file, kMaxIndexBytes), file.path());
  ShardIndex index;
  std::map<std::string, bool, std::less<>> shards;
  for (const JsonMember member : document.root().get("weight_map").members()) {
    const std::string_view shard = member.value.as_string();
    if (!is_plain_name(shard) || !shard.ends_with(format.extension))
      member.value.fail("the name of a " + std::string(format.extension) + " file in the same folder",
                        quote(shard));
    shards.emplace(shard, true);
    if (shards.size() > kMaxShards)
      member.value.fail("at most " + std::to_string(kMaxShards) + " files", "more");
    index.tensors.emplace_back(member.key, shard);
  }
  if (shards.empty()) document.root().get("weight_map").fail("the files of the tensors", "none");
  for (const auto& [name, unused] : shards) index.shards.push_back(name);
  return index;
}

/// The files with the weights, and all tensors in them.
struct Weights {
  std::vector<std::shared_ptr<const File>> files;
  std::vector<StoredTensor> tensors;
};

void add_file(const WeightFormat& format, std::shared_ptr<const File> file, Weights* weights) {
  std::vector<StoredTensor> tensors = format.read(*file, static_cast<std::uint32_t>(weights->files.size()));
  if (weights->tensors.size() + tensors.size() > kMaxStoredTensors) {
    throw Error(ErrorCode::unsupported_file,
                file->path() + ": the files have more than " + std::to_string(kMaxStoredTensors) + " tensors",
                {{"path", file->path()}, {"expected", kMaxStoredTensors}});
  }
  std::move(tensors.begin(), tensors.end(), std::back_inserter(weights->tensors));
  weights->files.push_back(std::move(file));
}

/// Every tensor of the index must be in its file.
void check_index(const ShardIndex& index, const Weights& weights, const std::string& path) {
  std::map<std::string_view, std::string_view> found;  // tensor -> shard
  for (const StoredTensor& tensor : weights.tensors) found[tensor.name] = index.shards[tensor.file_index];
  for (const auto& [tensor, shard] : index.tensors) {
    const auto at = found.find(tensor);
    if (at != found.end() && at->second == shard) continue;
    throw Error(ErrorCode::invalid_file,
                path + ": tensor " + quote(tensor) + ": expected in " + shard + ", found " +
                    (at == found.end() ? std::string("in no file") : "in " + std::string(at->second)),
                {{"path", path}, {"tensor", tensor}, {"expected", shard}});
  }
}

Weights open_weights(const std::string& folder, const FileOpener& open) {
  Weights weights;
  for (const WeightFormat& format : kFormats) {
    if (auto file = open_if_exists(open, join(folder, format.file))) {
      add_file(format, std::move(file), &weights);
      return weights;
    }
    const auto index_file = open_if_exists(open, join(folder, format.index));
    if (!index_file) continue;
    const ShardIndex index = read_index(*index_file, format);
    for (const std::string& shard : index.shards) add_file(format, open(join(folder, shard)), &weights);
    check_index(index, weights, index_file->path());
    return weights;
  }
  throw Error(ErrorCode::file_not_found,
              folder +
                  ": expected the weights as model.safetensors or pytorch_model.bin, or an index of either; "
                  "found none of them",
              {{"path", folder}, {"expected", "model.safetensors"}});
}

}  // namespace

std::unique_ptr<AssembledSource> open_hf_folder(const std::string& folder, const FileOpener& open) {
  const std::shared_ptr<const File> config_file = open(join(folder, "config.json"));
  const JsonDocument config =
      JsonDocument::parse(read_text(*config_file, kMaxConfigBytes), config_file->path());
  auto source = std::make_unique<AssembledSource>(folder, "huggingface");
  // A quantization is the better reason than the tensors' odd names or a type that nothing else explains.
  const HfQuantization quantization = read_hf_quantization(config.root(), *source);
  const HfConfig read = read_hf_config(config.root(), source.get());
  Weights weights = open_weights(folder, open);
  source->set_files(std::move(weights.files));
  add_hf_tensors(std::move(weights.tensors), read, quantization, source.get());
  read_hf_generation_config(folder, open, source.get());
  read_hf_chat_templates(folder, open, source.get());
  source->finish();
  return source;
}

}  // namespace cria
