// A model whose GGUF tensors are put together from stored ones while they are read: joined from shards or
// experts, reordered, converted. It holds no weights.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/model_source.h"
#include "io/stored_tensor.h"

namespace cria {

/// The scales of an FP8 matrix: element (r, c) is multiplied by values[r / block_rows][c / block_cols].
struct Fp8Scales {
  std::vector<float> values;
  std::uint64_t block_rows = 1, block_cols = 1;
};

/// Where the rows of a GGUF tensor come from. All its outer dimensions together count as rows; a vector has
/// rows of one element.
struct Assembly {
  enum class Join {
    rows,  // the parts follow one another (experts; layers that Meta splits by output, "column parallel")
    cols,  // each part has a piece of every row ("row parallel")
  };
  /// Of the same type and number of elements, F32, F16, BF16 or F8_E4M3.
  std::vector<StoredTensor> parts;
  Join join = Join::rows;
  /// 0, or the size of the heads whose dimensions Hugging Face keeps in halves, (0, d/2), (1, d/2 + 1), ...
  /// for RoPE, to be put in pairs, (0, 1), (2, 3), ..., as GGUF and Meta have them.
  std::uint64_t rope_head_dim = 0;
  /// F8_E4M3: one for each part.
  std::vector<Fp8Scales> scales;
  /// Instead of parts: the tensor itself, computed from the configuration.
  std::vector<float> values;
};

class AssembledSource final : public ModelSource {
 public:
  AssembledSource(std::string path, std::string_view format);

  std::string_view format() const noexcept override { return format_; }
  bool is_mappable() const noexcept override { return false; }
  void read(const GgufTensor& tensor, std::uint64_t offset, void* dst, std::size_t bytes) const override;

  /// For the readers of the formats. `files` in the order of StoredTensor::file_index.
  void set_files(std::vector<std::shared_ptr<const File>> files) { files_ = std::move(files); }
  void set_uint(std::string key, std::uint64_t value);
  void set_float(std::string key, double value);
  void set_string(std::string key, std::string_view value);
  void set_bool(std::string key, bool value);
  /// `dims`: innermost first. `dtype`: F32, F16 or BF16. Throws ERR_INVALID_MODEL for a second tensor of the
  /// name, and where the parts are not what the dimensions need.
  void add_tensor(std::string name, DType dtype, const std::vector<std::uint64_t>& dims, Assembly assembly);
  /// To be called when all tensors are there.
  void finish();

 private:
  struct Rows;  // a tensor's reader

  std::string_view format_;
  std::vector<Assembly> assemblies_;  // one for each of tensors_
};

/// The GGUF type that keeps all of `type`'s bits: F32, F16 and BF16 themselves; for F8_E4M3 with its scales,
/// F16. Throws ERR_UNSUPPORTED_MODEL for any other, naming `tensor`.
DType dtype_of(const StoredTensor& tensor, const std::string& path);

/// F8_E4M3 to float, exact.
float f8_e4m3_to_f32(std::uint8_t bits) noexcept;

}  // namespace cria
