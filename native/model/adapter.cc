#include "model/adapter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "core/error.h"
#include "core/hash.h"
#include "model/adapter_reader.h"

namespace cria {
namespace {

std::uint64_t fingerprint_of(const AdapterFile& file) {
  Xxh64 hash;
  const auto add = [&](const auto& value) { hash.update(&value, sizeof value); };
  for (const AdapterMatrix& m : file.matrices) {
    add(m.layer);
    add(m.projection);
    add(m.rank);
    add(m.scale);
    hash.update(m.a.data(), m.a.size() * sizeof(float));
    hash.update(m.b.data(), m.b.size() * sizeof(float));
  }
  return hash.digest();
}

WeightSpec spec_of(const AdapterMatrix& m, const std::vector<float>& values, std::int64_t rows) {
  return {.dtype = DType::f32,
          .rows = rows,
          .cols = static_cast<std::int64_t>(values.size()) / rows,
          .layer = m.layer};
}

/// A and B of every matrix.
std::vector<const std::vector<float>*> values_of(const AdapterFile& file) {
  std::vector<const std::vector<float>*> values;
  for (const AdapterMatrix& m : file.matrices) {
    values.push_back(&m.a);
    values.push_back(&m.b);
  }
  return values;
}

Adapter upload(const AdapterFile& file, std::uint32_t n_layers, Backend& backend) {
  const std::vector<WeightSpec> specs = adapter_specs({&file, 1});
  const std::vector<const std::vector<float>*> values = values_of(file);
  const std::unique_ptr<WeightUpload> upload = backend.weights().upload(specs);
  for (std::size_t part = 0; part < upload->parts().size(); part++)
    upload->fill(part, [&](const WeightRange& range, void* dst) {
      const auto* from = reinterpret_cast<const std::byte*>(values[range.index]->data());
      std::memcpy(dst, from + range.offset, range.bytes);
    });
  const std::vector<Weight> weights = upload->finish();
  Adapter adapter{.info = file.info, .layers = std::vector<AdapterLayer>(n_layers)};
  adapter.info.bytes = backend.weights().bytes(specs);
  for (std::size_t i = 0; i < file.matrices.size(); i++) {
    const AdapterMatrix& m = file.matrices[i];
    adapter.layers.at(static_cast<std::size_t>(m.layer)).low_rank[static_cast<std::size_t>(m.projection)] = {
        .a = weights[2 * i], .b = weights[2 * i + 1], .scale = m.scale};
  }
  return adapter;
}

}  // namespace

AdapterSet normalized(AdapterSet set, std::size_t n_adapters) {
  for (const AppliedAdapter& applied : set) {
    if (applied.adapter < 0 || static_cast<std::size_t>(applied.adapter) >= n_adapters)
      throw Error(ErrorCode::invalid_argument,
                  "adapter: expected an index below " + std::to_string(n_adapters) + ", found " +
                      std::to_string(applied.adapter),
                  {{"expected", n_adapters}, {"found", applied.adapter}});
    if (!std::isfinite(applied.scale))
      throw Error(ErrorCode::invalid_argument, "the scale of an adapter: expected a finite number");
  }
  std::ranges::sort(set, {}, &AppliedAdapter::adapter);
  const auto twice = std::ranges::adjacent_find(set, {}, &AppliedAdapter::adapter);
  if (twice != set.end())
    throw Error(ErrorCode::invalid_argument,
                "adapter " + std::to_string(twice->adapter) + ": expected once, found twice",
                {{"adapter", twice->adapter}});
  std::erase_if(set, [](const AppliedAdapter& applied) { return applied.scale == 0; });
  return set;
}

AdapterFile read_adapter(const std::string& path, const ModelConfig& config, const CancelFlag& cancel) {
  std::error_code ignored;
  const bool is_folder = std::filesystem::is_directory(path, ignored);
  AdapterFile file =
      is_folder ? read_peft_adapter(path, File::open, config, cancel)
                : read_gguf_adapter(std::make_shared<const GgufFile>(GgufFile::open(path)), config, cancel);
  file.info.path = path;
  for (const AdapterMatrix& m : file.matrices) {
    file.info.rank = std::max(file.info.rank, m.rank);
    file.info.parameters += m.a.size() + m.b.size();
  }
  file.info.fingerprint = fingerprint_of(file);
  return file;
}

bool change_gate_or_up(std::span<const AdapterFile> files) {
  return std::ranges::any_of(files, [](const AdapterFile& file) {
    return std::ranges::any_of(file.matrices, [](const AdapterMatrix& m) {
      return m.projection == Projection::gate || m.projection == Projection::up;
    });
  });
}

std::vector<WeightSpec> adapter_specs(std::span<const AdapterFile> files) {
  std::vector<WeightSpec> specs;
  for (const AdapterFile& file : files)
    for (const AdapterMatrix& m : file.matrices) {
      specs.push_back(spec_of(m, m.a, m.rank));
      specs.push_back(spec_of(m, m.b, static_cast<std::int64_t>(m.b.size()) / m.rank));
    }
  return specs;
}

std::vector<Adapter> upload_adapters(std::span<const AdapterFile> files, std::uint32_t n_layers,
                                     Backend& backend) {
  std::vector<Adapter> adapters;
  for (const AdapterFile& file : files) adapters.push_back(upload(file, n_layers, backend));
  return adapters;
}

std::uint64_t adapted_fingerprint(std::uint64_t model, std::span<const std::uint64_t> fingerprints,
                                  const AdapterSet& set) {
  if (set.empty()) return model;
  Xxh64 hash(model);
  for (const AppliedAdapter& applied : set) {
    const std::uint64_t own = fingerprints[static_cast<std::size_t>(applied.adapter)];
    hash.update(&own, sizeof own);
    hash.update(&applied.scale, sizeof applied.scale);
  }
  return hash.digest();
}

}  // namespace cria
