// A model in other types than its files have: quantized as it is read. Conversion writes what it reads to a
// file, loading brings it to a backend; neither ever holds more than a few pieces of tensors.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "convert/file_type.h"
#include "convert/importance_matrix.h"
#include "io/model_source.h"

namespace cria {

struct QuantizeOptions {
  FileType type = FileType::q4_k_m;
  std::shared_ptr<const ImportanceMatrix> importance;  // or null
  /// Also quantize tensors that are quantized already, which adds their errors up.
  bool requantize = false;
};

class QuantizedSource final : public ModelSource {
 public:
  /// Has the metadata of `source` with general.file_type and general.quantization_version, and without those
  /// of a split. Errors: those of mix_types(); ERR_INVALID_ARGUMENT for quantized tensors without
  /// `requantize`, for a type that needs an importance matrix, and for one that belongs to another model;
  /// ERR_UNSUPPORTED_FILE for a type that cria does not write.
  QuantizedSource(std::shared_ptr<const ModelSource> source, const QuantizeOptions& options);

  std::string_view format() const noexcept override { return source_->format(); }
  /// Errors: ERR_IO; ERR_INVALID_MODEL for weights that are not finite, or beyond the range of F16.
  void read(const GgufTensor& tensor, std::uint64_t offset, void* dst, std::size_t bytes) const override;
  bool is_mappable() const noexcept override { return false; }

 private:
  void set_file_metadata(const QuantizeOptions& options);
  void check_types(const QuantizeOptions& options) const;
  void load_importance(const ImportanceMatrix& matrix);
  void quantize_slab(const GgufTensor& from, const GgufTensor& to, std::uint64_t first, std::uint64_t count,
                     void* dst) const;
  const float* importance_of(const GgufTensor& tensor, std::uint64_t row) const;

  std::shared_ptr<const ModelSource> source_;
  struct Importance {
    std::string tensor;
    std::uint64_t rows;         // of each matrix
    std::vector<float> values;  // [matrices, cols]
  };
  std::vector<Importance> importance_;  // sorted by name
};

}  // namespace cria
