// Repacking of weights on the host. matmul_pack.h has the layouts, kernels/blocks.h the file's.
#include "kernels/cuda/matmul_pack.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/float_bits.h"
#include "kernels/blocks.h"
#include "kernels/cuda/matmul.h"
#include "kernels/host_machine.h"

namespace cria::cuda {
namespace {

constexpr int kGroups = 8;  // of 32 columns in a chunk of 256

/// A row's part of a chunk as bytes, and its scales as they are stored.
struct UnpackedRow {
  alignas(16) std::uint8_t low[256];   // bytes, or the low four bits
  alignas(16) std::uint8_t high[256];  // k5, k6: the bits above, shifted down
  std::uint8_t scales[32], mins[16], block[4];
  int block_bytes;
  std::uint8_t book[32];  // s4, c4: the codebook and the word after it
};

/// Block b's columns from column `first` of the chunk on.
template <class Block>
void unpack_quants(const Block& b, int first, UnpackedRow& row) {
  constexpr WeightForm kForm = Block::kForm;
  constexpr bool kNibbles = has_nibbles(kForm);
  if constexpr (requires { b.codes8(0); }) {
    for (int i = 0; i < Block::kElements / 8; i++) {
      const std::uint64_t codes = b.codes8(i);
      std::memcpy(row.low + first + 8 * i, &codes, 8);
    }
    return;
  }
  for (int s = 0; s < Block::kElements / 16; s++)
    for (int j = 0; j < 16; j++) {
      const int at = first + 16 * s + j;
      const int q = [&] {
        if constexpr (has_codes(kForm)) return b.code(16 * s + j);
        return b.quant(s, j);
      }();
      row.low[at] = static_cast<std::uint8_t>(kNibbles ? q & 15 : q);
      if (kForm == WeightForm::k5 || kForm == WeightForm::k6)
        row.high[at] = static_cast<std::uint8_t>(q >> 4 & 3);
    }
}

/// A block of 32: group g of the chunk.
template <class Block>
void unpack_block(const Block& b, int g, UnpackedRow& row) {
  unpack_quants(b, 32 * g, row);
  std::memcpy(row.scales + 2 * g, &b.d, 2);
  if constexpr (Block::kHasMin) std::memcpy(row.mins + 2 * g, &b.m, 2);
}

template <class Block>
void unpack_book(UnpackedRow& row) {
  std::memset(row.book, 0, sizeof row.book);
  for (int i = 0; i < 16; i++) row.book[i] = static_cast<std::uint8_t>(Block::Values::at(i));
  if constexpr (requires(const Block& b) { b.scale_bits(); }) row.book[16] = 1;
}

/// A block of form s4: columns from `first` of the chunk on.
template <class Block>
void unpack_scaled_block(const Block& b, int first, UnpackedRow& row) {
  unpack_quants(b, first, row);
  for (int s = 0; s < Block::kElements / 16; s++) {
    std::uint16_t d;
    if constexpr (requires { b.scale_bits(); })
      d = static_cast<std::uint16_t>(b.scale_bits() >> 16);
    else if constexpr (requires { b.d; })
      d = b.d;
    else
      d = f32_to_f16(b.template block_scale<HostMachine>() * static_cast<float>(b.scale(s)));  // exact
    std::memcpy(row.scales + 2 * (first / 16 + s), &d, 2);
  }
  unpack_book<Block>(row);
}

/// A super-block: the chunk.
template <class Block>
void unpack_super_block(const Block& b, UnpackedRow& row) {
  unpack_quants(b, 0, row);
  if constexpr (Block::kForm == WeightForm::k4 || Block::kForm == WeightForm::k5) {
    static_assert(offsetof(Block, d) == 0 && offsetof(Block, dmin) == 2 && offsetof(Block, scales) == 4);
    std::memcpy(row.scales, &b, 16);
    row.block_bytes = 0;
  } else if constexpr (Block::kForm == WeightForm::c4) {
    const float d = BlockValues<HostMachine, Block>::of_block(b).scale;
    for (int s = 0; s < 16; s++) {
      row.scales[s] = 1;
      if constexpr (requires { b.scale(0); })
        row.scales[s] = static_cast<std::uint8_t>(b.scale(16 * s / Block::kGroup));
    }
    std::memcpy(row.block, &d, 4);
    row.block_bytes = 4;
    unpack_book<Block>(row);
  } else {
    for (int s = 0; s < 16; s++) row.scales[s] = static_cast<std::uint8_t>(b.scale(16 * s / Block::kGroup));
    std::memcpy(row.block, &b.d, 2);
    row.block_bytes = 2;
    if constexpr (Block::kHasMin) {
      for (int s = 0; s < 16; s++) row.mins[s] = static_cast<std::uint8_t>(b.min(16 * s / Block::kGroup));
      std::memcpy(row.block + 2, &b.dmin, 2);
      row.block_bytes = 4;
    }
  }
}

/// The row's blocks from column `col` on, at most 256 columns.
template <class Block>
void unpack_chunk(const std::uint8_t* src, std::int64_t col, std::int64_t cols, UnpackedRow& row) {
  if constexpr (Block::kElements == kSuperBlockSize) {
    unpack_super_block(reinterpret_cast<const Block*>(src)[col / 256], row);
  } else {
    constexpr int kSize = Block::kElements;
    const Block* blocks = reinterpret_cast<const Block*>(src) + col / kSize;
    const int n = static_cast<int>(std::min<std::int64_t>(256, cols - col) / kSize);
    if (n < 256 / kSize) {
      std::memset(row.low, 0, sizeof row.low);
      std::memset(row.scales, 0, sizeof row.scales);
      std::memset(row.mins, 0, sizeof row.mins);
    }
    for (int i = 0; i < n; i++)
      if constexpr (has_codes(Block::kForm))
        unpack_scaled_block(blocks[i], kSize * i, row);
      else
        unpack_block(blocks[i], i, row);
  }
}

// ---- to the chunk ----

std::uint32_t word_of(const std::uint8_t* bytes) {
  std::uint32_t word;
  std::memcpy(&word, bytes, 4);
  return word;
}

/// Row r of a tile: register and lane of four columns.
struct Place {
  int lane4, upper;  // 4 * (r % 8), r / 8
  explicit Place(int r) : lane4(r % 8 * 4), upper(r / 8) {}
  int word(int k4) const { return (lane4 + k4 % 4) * 4 + upper + 2 * (k4 / 4); }  // k4: column % 32 / 4
};

void store(WeightForm form, const WeightLayout& layout, const UnpackedRow& row, int r, std::uint8_t* chunk) {
  const Place place(r);
  const bool nibbles = has_nibbles(form);
  auto* words = reinterpret_cast<std::uint32_t*>(chunk);
  for (int g = 0; g < kGroups; g++)
    for (int k4 = 0; k4 < 8; k4++) {
      const std::uint32_t low = word_of(row.low + 32 * g + 4 * k4);
      if (!nibbles)
        words[g * 128 + place.word(k4)] = low;
      else if (g % 2 == 0)
        words[g / 2 * 128 + place.word(k4)] = low | word_of(row.low + 32 * (g + 1) + 4 * k4) << 4;
      if (form != WeightForm::k5 && form != WeightForm::k6) continue;
      // Several rows and columns share a word of high bits; the chunk was cleared.
      const std::uint32_t high = word_of(row.high + 32 * g + 4 * k4);
      const int lane = place.lane4 + k4 % 4, reg = place.upper + 2 * (k4 / 4);
      if (form == WeightForm::k5)
        words[512 + lane * 4 + g / 2] |= high << (2 * reg + g % 2);
      else
        words[512 + g / 4 * 128 + lane * 4 + g % 4] |= high << (2 * reg);
    }
  std::memcpy(chunk + layout.scales + r * layout.scale_bytes, row.scales,
              static_cast<std::size_t>(layout.scale_bytes));
  if (layout.mins) std::memcpy(chunk + layout.mins + r * 16, row.mins, 16);
  if (layout.blocks)
    std::memcpy(chunk + layout.blocks + r * row.block_bytes, row.block,
                static_cast<std::size_t>(row.block_bytes));
  if (layout.book)
    std::memcpy(chunk + layout.book, row.book, static_cast<std::size_t>(layout.chunk_bytes - layout.book));
}

void store_floats(WeightForm form, const std::uint8_t* src, std::int64_t first, std::int64_t cols, int r,
                  std::uint8_t* chunk) {
  const int n = static_cast<int>(std::min<std::int64_t>(64, cols - first));
  const Place place(r);
  for (int c = 0; c < n; c++) {
    if (form == WeightForm::f32)
      std::memcpy(chunk + r * 256 + c % 16 * 16 + c / 16 * 4, src + (first + c) * 4, 4);
    else
      std::memcpy(chunk + c / 16 * 512 + place.word(c % 16 / 2) * 4 + c % 2 * 2, src + (first + c) * 2, 2);
  }
}

using UnpackChunk = void (*)(const std::uint8_t*, std::int64_t, std::int64_t, UnpackedRow&);

UnpackChunk unpacker(DType dtype) {
  return visit_dtype(dtype, [](auto format) -> UnpackChunk {
    using Block = typename decltype(format)::Block;
    if constexpr (Block::kElements > 1 && traits_of(Block::kType).is_weight) return unpack_chunk<Block>;
    return nullptr;  // floats are stored as they are
  });
}

void check(DType dtype, std::int64_t cols) {
  const DTypeTraits& traits = traits_of(dtype);
  if (traits.is_weight && cols > 0 && cols % traits.block_size == 0) return;
  throw Error(ErrorCode::internal, "a matrix of " + std::string(traits.name) + " with " +
                                       std::to_string(cols) + " columns cannot be repacked");
}

/// rows[r] is the file's row that becomes row r, null for zeros.
void pack_tile(DType dtype, std::int64_t cols, const std::uint8_t* const (&rows)[kTileRows],
               std::uint8_t* dst) {
  const WeightForm form = weight_form(dtype);
  const WeightLayout layout = weight_layout(form);
  const UnpackChunk unpack = unpacker(dtype);
  UnpackedRow row;
  std::memset(dst, 0, static_cast<std::size_t>(chunks_of(form, cols) * layout.chunk_bytes));
  for (std::int64_t col = 0; col < cols; col += layout.chunk_cols, dst += layout.chunk_bytes)
    for (int r = 0; r < kTileRows; r++) {
      if (!rows[r]) continue;
      if (unpack) {
        unpack(rows[r], col, cols, row);
        store(form, layout, row, r, dst);
      } else {
        store_floats(form, rows[r], col, cols, r, dst);
      }
    }
}

}  // namespace

std::size_t packed_bytes(DType dtype, std::int64_t rows, std::int64_t cols) {
  check(dtype, cols);
  const WeightForm form = weight_form(dtype);
  return static_cast<std::size_t>((rows + kTileRows - 1) / kTileRows * chunks_of(form, cols) *
                                  weight_layout(form).chunk_bytes);
}

std::size_t packed_gate_up_bytes(DType dtype, std::int64_t rows, std::int64_t cols) {
  return packed_bytes(dtype, (rows + 7) / 8 * 16, cols);
}

void repack_rows(DType dtype, std::int64_t cols, const void* src, std::int64_t rows, void* dst) {
  const std::size_t tile_bytes = packed_bytes(dtype, kTileRows, cols),
                    row = row_bytes(dtype, static_cast<std::size_t>(cols));
  const auto* from = static_cast<const std::uint8_t*>(src);
  auto* to = static_cast<std::uint8_t*>(dst);
  for (std::int64_t first = 0; first < rows; first += kTileRows, to += tile_bytes) {
    const std::uint8_t* tile[kTileRows];
    for (std::int64_t r = 0; r < kTileRows; r++)
      tile[r] = first + r < rows ? from + static_cast<std::size_t>(first + r) * row : nullptr;
    pack_tile(dtype, cols, tile, to);
  }
}

void repack_gate_up(DType dtype, std::int64_t cols, const void* gate, const void* up, std::int64_t rows,
                    void* dst) {
  const std::size_t tile_bytes = packed_bytes(dtype, kTileRows, cols),
                    row = row_bytes(dtype, static_cast<std::size_t>(cols));
  auto* to = static_cast<std::uint8_t*>(dst);
  for (std::int64_t first = 0; first < rows; first += 8, to += tile_bytes) {
    const std::uint8_t* tile[kTileRows];
    for (std::int64_t r = 0; r < 8; r++) {
      const std::size_t at = static_cast<std::size_t>(first + r) * row;
      tile[r] = first + r < rows ? static_cast<const std::uint8_t*>(gate) + at : nullptr;
      tile[r + 8] = first + r < rows ? static_cast<const std::uint8_t*>(up) + at : nullptr;
    }
    pack_tile(dtype, cols, tile, to);
  }
}

}  // namespace cria::cuda
