#include "io/assembled_source.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "core/float_bits.h"
#include "io/byte_cursor.h"
#include "io/file_error.h"
#include "io/name_index.h"

namespace cria {
namespace {

// Rows are read and converted in pieces that stay in cache.
constexpr std::uint64_t kPieceBytes = std::uint64_t{256} << 10;

constexpr std::array<float, 256> kF8E4M3 = [] {
  std::array<float, 256> table{};
  for (std::uint32_t bits = 0; bits < 256; ++bits) {
    const std::uint32_t exponent = (bits >> 3) & 15, mantissa = bits & 7;
    float value = static_cast<float>(exponent == 0 ? mantissa : mantissa + 8) * 0x1p-9f;
    for (std::uint32_t e = 1; e < exponent; ++e) value *= 2;
    if ((bits & 0x7f) == 0x7f) value = float_from_bits(0x7fc00000u);
    table[bits] = bits & 0x80 ? -value : value;
  }
  return table;
}();

float element_as_float(StoredType type, const std::uint8_t* at) {
  std::uint16_t half;
  float value;
  switch (type) {
    case StoredType::f16: std::memcpy(&half, at, sizeof(half)); return f16_to_f32(half);
    case StoredType::bf16: std::memcpy(&half, at, sizeof(half)); return bf16_to_f32(half);
    case StoredType::f8_e4m3: return kF8E4M3[*at];
    default: std::memcpy(&value, at, sizeof(value)); return value;
  }
}

void store_float(DType dtype, float value, std::uint8_t* at) {
  if (dtype == DType::f32) {
    std::memcpy(at, &value, sizeof(value));
    return;
  }
  const std::uint16_t half = dtype == DType::f16 ? f32_to_f16(value) : f32_to_bf16(value);
  std::memcpy(at, &half, sizeof(half));
}

bool same_bits(StoredType from, DType to) {
  return (from == StoredType::f32 && to == DType::f32) || (from == StoredType::f16 && to == DType::f16) ||
         (from == StoredType::bf16 && to == DType::bf16);
}

}  // namespace

/// Whether equal parts and whole heads make up the tensor.
static bool divides(const Assembly& assembly, const GgufTensor& tensor) {
  const std::uint64_t cols = tensor.n_dims == 1 ? 1 : tensor.dims[0], rows = tensor.elements() / cols;
  const std::uint64_t d = assembly.rope_head_dim;
  if (d != 0 && (d % 2 != 0 || rows % d != 0)) return false;
  const std::uint64_t parts = assembly.parts.size();
  if (parts > 0 && (assembly.join == Assembly::Join::cols ? cols : rows) % parts != 0) return false;
  return std::all_of(assembly.parts.begin(), assembly.parts.end(), [&](const StoredTensor& part) {
    return part.bytes == assembly.parts.front().bytes && part.type == assembly.parts.front().type;
  });
}

float f8_e4m3_to_f32(std::uint8_t bits) noexcept { return kF8E4M3[bits]; }

DType dtype_of(const StoredTensor& tensor, const std::string& path) {
  switch (tensor.type) {
    case StoredType::f32: return DType::f32;
    case StoredType::f16: return DType::f16;
    case StoredType::bf16: return DType::bf16;
    case StoredType::f8_e4m3: return DType::f16;
    default: break;
  }
  throw Error(ErrorCode::unsupported_model,
              path + ": tensor " + quote(tensor.name) + " is of type " + std::string(name_of(tensor.type)) +
                  "; expected F32, F16, BF16, or F8_E4M3 with scales",
              {{"path", path}, {"tensor", tensor.name}, {"found", name_of(tensor.type)}});
}

// ---- reading ----

/// Reads rows of one tensor. For one thread; it owns the buffers.
struct AssembledSource::Rows {
  Rows(const AssembledSource& from, const GgufTensor& tensor, const Assembly& how)
      : source(from), assembly(how), dtype(tensor.dtype) {
    const bool vector = tensor.n_dims == 1;
    cols = vector ? 1 : tensor.dims[0];
    rows = vector ? tensor.dims[0] : tensor.elements() / cols;
    row_bytes = cols * traits_of(dtype).block_bytes;
    const std::uint64_t parts = assembly.parts.size();
    const bool by_cols = assembly.join == Assembly::Join::cols;
    part_rows = by_cols ? rows : rows / parts;
    part_cols = by_cols ? cols / parts : cols;
  }

  /// How many rows make a piece.
  std::uint64_t piece() const { return std::max<std::uint64_t>(1, kPieceBytes / row_bytes); }

  /// Rows of GGUF's order.
  void read(std::uint64_t row, std::uint64_t n, std::uint8_t* out) {
    const std::uint64_t d = assembly.rope_head_dim;
    if (d == 0) return read_joined(row, n, out);
    while (n > 0) {
      const std::uint64_t head = row - row % d, begin = row % d;
      const std::uint64_t count = std::min({n, d - begin, piece() + 1});
      const std::uint64_t first = begin / 2, pairs = (begin + count + 1) / 2 - first;
      halves.resize(2 * pairs * row_bytes);
      read_joined(head + first, pairs, halves.data());
      read_joined(head + d / 2 + first, pairs, halves.data() + pairs * row_bytes);
      for (std::uint64_t i = begin; i < begin + count; ++i, out += row_bytes)
        std::memcpy(out, halves.data() + ((i % 2) * pairs + i / 2 - first) * row_bytes, row_bytes);
      row += count;
      n -= count;
    }
  }

  /// Rows in the parts' order.
  void read_joined(std::uint64_t row, std::uint64_t n, std::uint8_t* out) {
    if (assembly.join == Assembly::Join::cols) {
      const std::uint64_t step = part_cols * traits_of(dtype).block_bytes;
      for (std::size_t part = 0; part < assembly.parts.size(); ++part)
        read_part(part, row, n, out + part * step);
      return;
    }
    while (n > 0) {
      const std::uint64_t count = std::min(n, part_rows - row % part_rows);
      read_part(static_cast<std::size_t>(row / part_rows), row % part_rows, count, out);
      row += count;
      n -= count;
      out += count * row_bytes;
    }
  }

  /// Rows of one part, each to its place in a row of the tensor.
  void read_part(std::size_t index, std::uint64_t row, std::uint64_t n, std::uint8_t* out) {
    const StoredTensor& part = assembly.parts[index];
    const std::uint64_t stored_bytes = part_cols * traits_of(part.type).bits / 8;
    const File& file = *source.files()[part.file_index];
    const bool copied = same_bits(part.type, dtype);
    if (copied && part_cols == cols)
      return file.read_at(part.offset + row * stored_bytes, out, static_cast<std::size_t>(n * stored_bytes));
    while (n > 0) {
      const std::uint64_t count = std::min(n, std::max<std::uint64_t>(1, kPieceBytes / stored_bytes));
      stored.resize(static_cast<std::size_t>(count * stored_bytes));
      file.read_at(part.offset + row * stored_bytes, stored.data(), stored.size());
      for (std::uint64_t r = 0; r < count; ++r, out += row_bytes) {
        const std::uint8_t* from = stored.data() + r * stored_bytes;
        if (copied)
          std::memcpy(out, from, static_cast<std::size_t>(stored_bytes));
        else
          convert_row(index, row + r, from, out);
      }
      row += count;
      n -= count;
    }
  }

  void convert_row(std::size_t index, std::uint64_t row, const std::uint8_t* from, std::uint8_t* out) const {
    const StoredType type = assembly.parts[index].type;
    const std::uint64_t from_bytes = traits_of(type).bits / 8, to_bytes = traits_of(dtype).block_bytes;
    const Fp8Scales* scales = assembly.scales.empty() ? nullptr : &assembly.scales[index];
    const std::uint64_t block = scales == nullptr ? part_cols : scales->block_cols;
    const float* scale = nullptr;
    if (scales != nullptr)
      scale = scales->values.data() + row / scales->block_rows * ((part_cols + block - 1) / block);
    for (std::uint64_t begin = 0; begin < part_cols; begin += block) {
      const float factor = scale == nullptr ? 1.0f : *scale++;
      for (std::uint64_t c = begin; c < std::min(part_cols, begin + block); ++c)
        store_float(dtype, element_as_float(type, from + c * from_bytes) * factor, out + c * to_bytes);
    }
  }

  const AssembledSource& source;
  const Assembly& assembly;
  DType dtype;
  std::uint64_t cols, rows, row_bytes, part_rows, part_cols;
  std::vector<std::uint8_t> halves, stored;
};

void AssembledSource::read(const GgufTensor& tensor, std::uint64_t offset, void* dst,
                           std::size_t bytes) const {
  const GgufTensor* own = find_tensor(tensor.name);
  if (own == nullptr) throw Error(ErrorCode::internal, path_ + ": no tensor " + quote(tensor.name));
  const Assembly& assembly = assemblies_[static_cast<std::size_t>(own - tensors_.data())];
  auto* out = static_cast<std::uint8_t*>(dst);
  if (offset > tensor.bytes || bytes > tensor.bytes - offset)
    throw Error(ErrorCode::internal, path_ + ": read beyond the tensor " + quote(tensor.name));
  if (!assembly.values.empty()) {
    std::memcpy(out, reinterpret_cast<const std::uint8_t*>(assembly.values.data()) + offset, bytes);
    return;
  }
  Rows rows(*this, tensor, assembly);
  std::vector<std::uint8_t> whole;  // a row of which only a piece is wanted
  while (bytes > 0) {
    const std::uint64_t row = offset / rows.row_bytes, skipped = offset % rows.row_bytes;
    std::uint64_t got;
    if (skipped == 0 && bytes >= rows.row_bytes) {
      const std::uint64_t n = bytes / rows.row_bytes;
      rows.read(row, n, out);
      got = n * rows.row_bytes;
    } else {
      whole.resize(static_cast<std::size_t>(rows.row_bytes));
      rows.read(row, 1, whole.data());
      got = std::min<std::uint64_t>(bytes, rows.row_bytes - skipped);
      std::memcpy(out, whole.data() + skipped, static_cast<std::size_t>(got));
    }
    out += got;
    offset += got;
    bytes -= static_cast<std::size_t>(got);
  }
}

// ---- building ----

AssembledSource::AssembledSource(std::string path, std::string_view format) : format_(format) {
  path_ = std::move(path);
}

void AssembledSource::set_uint(std::string key, std::uint64_t value) {
  set_metadata(std::move(key), value > UINT32_MAX ? GgufType::u64 : GgufType::u32, value);
}
void AssembledSource::set_float(std::string key, double value) {
  set_metadata(std::move(key), GgufType::f32, double{static_cast<float>(value)});
}
void AssembledSource::set_string(std::string key, std::string_view value) {
  set_metadata(std::move(key), GgufType::string, std::string(value));
}
void AssembledSource::set_bool(std::string key, bool value) {
  set_metadata(std::move(key), GgufType::boolean, value);
}

void AssembledSource::add_tensor(std::string name, DType dtype, const std::vector<std::uint64_t>& dims,
                                 Assembly assembly) {
  GgufTensor tensor{};
  tensor.name = std::move(name);
  tensor.dtype = dtype;
  tensor.n_dims = static_cast<std::uint32_t>(dims.size());
  std::uint64_t elements = 1;
  bool fits = true;
  for (std::size_t d = 0; d < 4; ++d) {
    tensor.dims[d] = d < dims.size() ? dims[d] : 1;
    fits = fits && tensor.dims[d] > 0 && checked_mul(elements, tensor.dims[d], &elements);
  }
  fits =
      fits && checked_mul(elements, traits_of(dtype).block_bytes, &tensor.bytes) && divides(assembly, tensor);
  // Each part is within its file, so the parts' elements cannot overflow.
  std::uint64_t stored = assembly.values.size();
  for (const StoredTensor& part : assembly.parts) stored += part.bytes * 8 / traits_of(part.type).bits;
  if (!fits || stored != elements) {
    throw Error(ErrorCode::invalid_model,
                path_ + ": tensor " + quote(tensor.name) + ": expected shape " + shape_text(dims) +
                    ", found " + std::to_string(stored) + " elements",
                {{"path", path_}, {"tensor", tensor.name}, {"found", stored}});
  }
  if (!assembly.parts.empty()) {
    tensor.file_index = assembly.parts.front().file_index;
    tensor.offset = assembly.parts.front().offset;
  }
  tensors_.push_back(std::move(tensor));
  assemblies_.push_back(std::move(assembly));
}

void AssembledSource::finish() {
  build_indices();
  const auto name_of_tensor = [](const GgufTensor& t) -> std::string_view { return t.name; };
  const auto twice = first_duplicate(tensors_, tensor_order_, name_of_tensor);
  if (!twice) return;
  const std::string& name = tensors_[twice->first].name;
  throw Error(ErrorCode::invalid_model,
              path_ + ": two tensors of the model are " + quote(name) + " in GGUF's terms",
              {{"path", path_}, {"tensor", name}});
}

}  // namespace cria
