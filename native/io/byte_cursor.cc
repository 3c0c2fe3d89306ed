#include "io/byte_cursor.h"

#include <algorithm>

#include "io/file_error.h"

namespace cria {
namespace {

constexpr std::size_t kBufferBytes = 64 * 1024;

}  // namespace

ByteCursor::ByteCursor(const File& file, std::uint64_t limit)
    : file_(file), size_(file.size()), limit_(std::min(limit, file.size())) {
  buffer_.resize(static_cast<std::size_t>(std::min<std::uint64_t>(kBufferBytes, limit_)));
}

void ByteCursor::refill() {
  buffer_offset_ = position();
  buffer_used_ = 0;
  buffer_size_ = 0;  // stays empty if the read throws
  const auto bytes =
      static_cast<std::size_t>(std::min<std::uint64_t>(buffer_.size(), limit_ - buffer_offset_));
  file_.read_at(buffer_offset_, buffer_.data(), bytes);
  buffer_size_ = bytes;
}

void ByteCursor::read_bytes(void* dst, std::size_t bytes, std::string_view what) {
  require(bytes, 1, what);
  auto* out = static_cast<std::uint8_t*>(dst);
  while (bytes > 0) {
    if (buffer_used_ == buffer_size_) refill();
    const std::size_t step = std::min(bytes, buffer_size_ - buffer_used_);
    std::memcpy(out, buffer_.data() + buffer_used_, step);
    buffer_used_ += step;
    out += step;
    bytes -= step;
  }
}

std::string ByteCursor::read_string(std::uint64_t max_bytes, std::string_view what) {
  const auto length = read<std::uint64_t>(what);
  require(length, 1, what);
  if (length > max_bytes) {
    fail(ErrorCode::invalid_file,
         std::string(what) + " has " + std::to_string(length) + " bytes; at most " +
             std::to_string(max_bytes) + " are allowed",
         {{"expected", max_bytes}, {"found", length}});
  }
  std::string text(static_cast<std::size_t>(length), '\0');
  read_bytes(text.data(), text.size(), what);
  return text;
}

void ByteCursor::skip(std::uint64_t bytes, std::string_view what) {
  require(bytes, 1, what);
  if (bytes <= buffer_size_ - buffer_used_) {
    buffer_used_ += static_cast<std::size_t>(bytes);
  } else {
    buffer_offset_ = position() + bytes;
    buffer_size_ = buffer_used_ = 0;
  }
}

void ByteCursor::seek_back(std::uint64_t position) noexcept {
  if (position >= buffer_offset_ && position - buffer_offset_ <= buffer_size_) {
    buffer_used_ = static_cast<std::size_t>(position - buffer_offset_);
  } else {
    buffer_offset_ = position;
    buffer_size_ = buffer_used_ = 0;
  }
}

void ByteCursor::require(std::uint64_t count, std::uint64_t element_bytes, std::string_view what) const {
  std::uint64_t bytes = 0;
  const bool representable = checked_mul(count, element_bytes, &bytes);
  if (!representable || bytes > remaining()) {
    const std::string needed = element_bytes == 1 ? std::to_string(count) + " bytes"
                                                  : std::to_string(count) + " times at least " +
                                                        std::to_string(element_bytes) + " bytes";
    fail(ErrorCode::invalid_file,
         std::string(what) + " needs " + needed + ", but the file ends after another " +
             std::to_string(remaining()) + " bytes; it is truncated or damaged",
         {{"expected", count}, {"remaining", remaining()}});
  }
  if (bytes > limit_ - position()) {
    fail(ErrorCode::unsupported_file,
         std::string(what) + " would make the header larger than the supported " + std::to_string(limit_) +
             " bytes",
         {{"limit", limit_}, {"found", bytes}});
  }
}

void ByteCursor::fail_at(std::uint64_t offset, ErrorCode code, const std::string& message,
                         std::vector<ErrorDetail> details) const {
  std::string text = file_.path() + ": ";
  if (!context_.empty()) text += context_ + ": ";
  text += message + " (at byte " + std::to_string(offset) + ")";
  details.emplace_back("path", file_.path());
  if (!context_.empty()) details.emplace_back("where", context_);
  details.emplace_back("offset", offset);
  throw Error(code, text, std::move(details));
}

}  // namespace cria
