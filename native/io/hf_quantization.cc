#include "io/hf_quantization.h"

#include <cmath>
#include <cstring>
#include <string_view>

#include "core/error.h"
#include "core/float_bits.h"
#include "io/file_error.h"
#include "io/hf_config.h"

namespace cria {
namespace {

constexpr std::string_view kHint =
    "use the folder of the unquantized model, or a GGUF of the size that you want";

constexpr float kMaxScale = 65504.0f / 448;  // by the largest number of E4M3

/// A block of [rows, columns] of a matrix.
void read_block(const JsonValue& block, HfQuantization* into) {
  if (!block.is(JsonType::array) || block.size() != 2) block.fail("two sizes", "something else");
  const JsonRange<JsonValue> sizes = block.elements();
  auto at = sizes.begin();
  into->block_rows = (*at).as_size();
  into->block_cols = (*++at).as_size();
  if (into->block_rows == 0 || into->block_cols == 0) block.fail("two positive sizes", "0");
}

/// compressed-tensors: groups of layers, each with a format of weights.
void read_groups(const JsonValue& config, const AssembledSource& source, HfQuantization* into) {
  if (const auto format = config.find("format");
      format && format->as_string() != "float-quantized" && format->as_string() != "naive-quantized") {
    throw_unsupported_value(
        source, *format, quote(format->as_string()),
        "of compressed-tensors only FP8 (\"float-quantized\") is supported; " + std::string(kHint));
  }
  for (const JsonMember group : config.get("config_groups").members()) {
    const auto weights = group.value.find("weights");
    if (!weights) continue;
    const JsonValue bits = weights->get("num_bits"), type = weights->get("type");
    if (type.as_string() != "float" || bits.as_size() != 8) {
      throw_unsupported_value(source, *weights,
                              std::to_string(bits.as_size()) + " bits, " + quote(type.as_string()),
                              "of compressed-tensors only FP8 weights are supported; " + std::string(kHint));
    }
    if (const auto block = weights->find("block_structure"); block && block->is(JsonType::array))
      read_block(*block, into);
  }
}

}  // namespace

HfQuantization read_hf_quantization(const JsonValue& config, const AssembledSource& source) {
  HfQuantization read;
  auto quantization = config.find("quantization_config");
  if (!quantization) quantization = config.find("compression_config");
  if (!quantization) return read;
  const JsonValue method = quantization->get("quant_method");
  const std::string_view name = method.as_string();
  if (name == "compressed-tensors") {
    read_groups(*quantization, source, &read);
  } else if (name == "fp8" || name == "fbgemm_fp8") {
    if (const auto format = quantization->find("fmt"); format && format->as_string() != "e4m3")
      throw_unsupported_value(source, *format, quote(format->as_string()), "only E4M3 is supported");
    if (const auto block = quantization->find("weight_block_size")) read_block(*block, &read);
  } else {
    throw_unsupported_value(
        source, method, quote(name),
        "of quantized folders only FP8 (compressed-tensors, fbgemm_fp8, fp8) is supported; " +
            std::string(kHint));
  }
  read.fp8 = true;
  return read;
}

Fp8Scales read_fp8_scales(const StoredTensor& weight, const StoredTensor& scale,
                          const HfQuantization& quantization, const AssembledSource& source) {
  const auto fail = [&](const std::string& expected, const std::string& found) {
    throw Error(
        ErrorCode::invalid_model,
        source.path() + ": tensor " + quote(scale.name) + ": expected " + expected + ", found " + found,
        {{"path", source.path()}, {"tensor", scale.name}, {"expected", expected}, {"found", found}});
  };
  if (weight.shape.size() != 2) fail("scales of a matrix", "those of shape " + shape_text(weight.shape));
  const std::uint64_t rows = weight.shape[0], cols = weight.shape[1];
  const auto blocks = [](std::uint64_t n, std::uint64_t block) { return n / block + (n % block != 0); };
  const std::vector<std::uint64_t>& shape = scale.shape;
  const std::vector<std::uint64_t> by_block = {blocks(rows, quantization.block_rows),
                                               blocks(cols, quantization.block_cols)};
  Fp8Scales scales{.values = {}, .block_rows = rows, .block_cols = cols};
  const std::uint64_t count = scale.bytes * 8 / traits_of(scale.type).bits;
  if (count == 1) {
  } else if (shape == std::vector<std::uint64_t>{rows} || shape == std::vector<std::uint64_t>{rows, 1}) {
    scales.block_rows = 1;
  } else if (shape == by_block) {
    scales.block_rows = quantization.block_rows;
    scales.block_cols = quantization.block_cols;
  } else {
    fail("one scale, " + std::to_string(rows) + " for the rows, or " + shape_text(by_block) +
             " for the blocks",
         "shape " + shape_text(shape));
  }

  if (scale.type != StoredType::f32 && scale.type != StoredType::f16 && scale.type != StoredType::bf16)
    fail("F32, F16 or BF16", std::string(name_of(scale.type)));
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(scale.bytes));
  source.files()[scale.file_index]->read_at(scale.offset, bytes.data(), bytes.size());
  for (std::uint64_t i = 0; i < count; ++i) {
    std::uint16_t half = 0;
    float value = 0;
    if (scale.type == StoredType::f32) {
      std::memcpy(&value, bytes.data() + 4 * i, sizeof(value));
    } else {
      std::memcpy(&half, bytes.data() + 2 * i, sizeof(half));
      value = scale.type == StoredType::f16 ? f16_to_f32(half) : bf16_to_f32(half);
    }
    // F16, to which the weights are converted, ends at 65504.
    if (!(std::abs(value) <= kMaxScale)) fail("scales up to " + number_text(kMaxScale), number_text(value));
    scales.values.push_back(value);
  }
  return scales;
}

}  // namespace cria
