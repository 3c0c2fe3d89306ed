// The bounds-checked reader of untrusted bytes: it checks every read, skip and count against the file's size
// before it touches or allocates memory. Little endian.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/error.h"
#include "io/file.h"

namespace cria {

static_assert(std::endian::native == std::endian::little, "files are little endian and are not converted");

/// a + b, or false when it does not fit 64 bits.
[[nodiscard]] constexpr bool checked_add(std::uint64_t a, std::uint64_t b, std::uint64_t* sum) noexcept {
  *sum = a + b;
  return *sum >= a;
}

/// a * b, or false when it does not fit 64 bits.
[[nodiscard]] constexpr bool checked_mul(std::uint64_t a, std::uint64_t b, std::uint64_t* product) noexcept {
  *product = a * b;
  return a == 0 || *product / a == b;
}

/// `value` rounded up to a multiple of `alignment` (a power of two), or false when it does not fit 64 bits.
[[nodiscard]] constexpr bool checked_align_up(std::uint64_t value, std::uint64_t alignment,
                                              std::uint64_t* aligned) noexcept {
  if (!checked_add(value, alignment - 1, aligned)) return false;
  *aligned &= ~(alignment - 1);
  return true;
}

/// Reads the leading part of a file in order, through a buffer of fixed size. For one thread.
class ByteCursor {
 public:
  /// `limit` is the maximal size of a header in bytes: nothing beyond it is read. The file must outlive the
  /// cursor.
  ByteCursor(const File& file, std::uint64_t limit);

  std::uint64_t position() const noexcept { return buffer_offset_ + buffer_used_; }
  /// Bytes to the end of the file.
  std::uint64_t remaining() const noexcept { return size_ - position(); }

  /// What is being read, e.g. `metadata key "llama.block_count"`; every later error mentions it.
  void set_context(std::string context) { context_ = std::move(context); }

  /// `what` names the value in errors.
  template <typename T>
  T read(std::string_view what) {
    static_assert(std::is_arithmetic_v<T> && !std::is_same_v<T, bool>);
    T value;
    if (buffer_size_ - buffer_used_ >= sizeof(T)) {
      std::memcpy(&value, buffer_.data() + buffer_used_, sizeof(T));
      buffer_used_ += sizeof(T);
    } else {
      read_bytes(&value, sizeof(T), what);
    }
    return value;
  }
  void read_bytes(void* dst, std::size_t bytes, std::string_view what);
  /// Reads a 64-bit length and that many bytes. Throws ERR_INVALID_FILE for more than `max_bytes`.
  std::string read_string(std::uint64_t max_bytes, std::string_view what);
  void skip(std::uint64_t bytes, std::string_view what);
  /// Moves back to an earlier position.
  void seek_back(std::uint64_t position) noexcept;

  /// Throws unless the file and the limit leave room for `count` elements of at least `element_bytes` each.
  /// Call it before allocating memory for them.
  void require(std::uint64_t count, std::uint64_t element_bytes, std::string_view what) const;

  /// Throws `code` with the path, the context, `message` and the byte offset.
  [[noreturn]] void fail(ErrorCode code, const std::string& message,
                         std::vector<ErrorDetail> details = {}) const {
    fail_at(position(), code, message, std::move(details));
  }
  [[noreturn]] void fail_at(std::uint64_t offset, ErrorCode code, const std::string& message,
                            std::vector<ErrorDetail> details = {}) const;

 private:
  void refill();

  const File& file_;
  std::uint64_t size_;
  std::uint64_t limit_;  // at most size_
  std::string context_;
  std::vector<std::uint8_t> buffer_;
  std::uint64_t buffer_offset_ = 0;  // position of buffer_[0] in the file
  std::size_t buffer_size_ = 0;      // valid bytes
  std::size_t buffer_used_ = 0;      // bytes already consumed
};

}  // namespace cria
