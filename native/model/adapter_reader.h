// What the readers of adapters share: which matrix a tensor belongs to, and the checks against the model.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "core/dtype.h"
#include "core/error.h"
#include "io/gguf.h"
#include "model/adapter.h"

namespace cria {

// Errors. Each names the adapter, the tensor or key, what was expected and what was found.

/// ERR_INVALID_MODEL.
[[noreturn]] void throw_invalid_adapter(const std::string& path, const std::string& what,
                                        const std::string& expected, const std::string& found);
/// ERR_UNSUPPORTED_MODEL: "<path>: <what>: <why>".
[[noreturn]] void throw_unsupported_adapter(const std::string& path, const std::string& what,
                                            const std::string& why);

/// Collects the two halves of each matrix's update, checks their shapes before any value is read, and reads
/// them.
class AdapterReader {
 public:
  struct Target {
    std::int32_t layer = 0;
    Projection projection = Projection::query;
    auto operator<=>(const Target&) const = default;
  };
  /// One of the two matrices of an update. `read` fills bytes() bytes, row-major, in `dtype`.
  struct Half {
    std::string name;  // for messages
    DType dtype = DType::f32;
    std::int64_t rows = 0, cols = 0;
    std::function<void(void* dst, std::size_t bytes)> read;
  };
  enum class Which { a, b };
  /// The scale of a matrix's update, by its rank.
  using Scale = std::function<double(const Target&, const Half& a)>;

  AdapterReader(std::string path, const ModelConfig& config) : path_(std::move(path)), config_(config) {}

  /// Throws ERR_INVALID_MODEL for a layer that the model does not have, and for a half given twice.
  void add(std::uint64_t layer, Projection projection, Which which, Half half);
  /// Checks and reads everything. `rotate_half`: rows of query and key are in the order of Hugging Face's
  /// weights (RopeLayout::half).
  std::vector<AdapterMatrix> read(const Scale& scale, bool rotate_half, const CancelFlag& cancel) const;

 private:
  struct Halves {
    Half a, b;
  };
  /// Rows and columns of the model's matrix.
  std::pair<std::int64_t, std::int64_t> shape_of(Projection projection) const;
  void check(const Target& target, const Halves& halves) const;
  void to_model_order(AdapterMatrix& matrix) const;

  std::string path_;
  const ModelConfig& config_;
  std::map<Target, Halves> targets_;
};

// The formats. Errors: those of read_adapter().
AdapterFile read_gguf_adapter(const std::shared_ptr<const GgufFile>& file, const ModelConfig& config,
                              const CancelFlag& cancel);
/// `open` opens files in the folder, with File::open's errors.
AdapterFile read_peft_adapter(const std::string& folder, const FileOpener& open, const ModelConfig& config,
                              const CancelFlag& cancel);

}  // namespace cria
