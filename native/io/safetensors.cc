#include "io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/error.h"
#include "core/json.h"
#include "io/byte_cursor.h"
#include "io/file_error.h"
#include "io/file_kind.h"

namespace cria {

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string text = "[";
  for (std::size_t d = 0; d < shape.size(); ++d) text += (d == 0 ? "" : ", ") + std::to_string(shape[d]);
  return text + "]";
}

namespace {

constexpr std::uint64_t kLengthBytes = 8;
// The header and the tensors in it are flat: header, tensor, list.
constexpr std::size_t kMaxDepth = 8;
constexpr std::size_t kMaxRank = 16;

[[noreturn]] void fail(const File& file, ErrorCode code, const std::string& message,
                       std::vector<ErrorDetail> details = {}) {
  details.insert(details.begin(), {"path", file.path()});
  throw Error(code, file.path() + ": " + message, std::move(details));
}

/// The header's text.
std::string read_header(const File& file) {
  std::uint64_t header_bytes = 0;
  if (file.size() >= kLengthBytes) file.read_at(0, &header_bytes, sizeof(header_bytes));
  char first = 0;
  if (file.size() > kLengthBytes) file.read_at(kLengthBytes, &first, 1);
  if (first != '{') {
    std::vector<std::uint8_t> head(static_cast<std::size_t>(std::min(file.size(), kFileKindBytes)));
    file.read_at(0, head.data(), head.size());
    const std::string found = describe_file_kind(head, file.size());
    fail(file, ErrorCode::invalid_file, "expected a safetensors file, found " + found,
         {{"expected", "a safetensors file"}, {"found", found}});
  }
  if (header_bytes > file.size() - kLengthBytes) {
    fail(file, ErrorCode::invalid_file,
         "the header has " + std::to_string(header_bytes) + " bytes, but only " +
             std::to_string(file.size() - kLengthBytes) + " follow: the file is incomplete",
         {{"expected", header_bytes}, {"found", file.size() - kLengthBytes}});
  }
  if (header_bytes > kMaxSafetensorsHeaderBytes) {
    fail(file, ErrorCode::unsupported_file,
         "the header has " + std::to_string(header_bytes) + " bytes; the format allows " +
             std::to_string(kMaxSafetensorsHeaderBytes),
         {{"expected", kMaxSafetensorsHeaderBytes}, {"found", header_bytes}});
  }
  std::string text(static_cast<std::size_t>(header_bytes), '\0');
  file.read_at(kLengthBytes, text.data(), text.size());
  return text;
}

StoredType read_type(const File& file, std::string_view tensor, JsonValue value) {
  const std::string_view name = value.as_string();
  for (const StoredTypeTraits& traits : kStoredTypes)
    if (traits.name == name) return traits.type;
  fail(file, ErrorCode::unsupported_file, "tensor " + quote(tensor) + " is of unknown type " + quote(name),
       {{"tensor", tensor}, {"found", name}});
}

/// The bytes that a tensor of this type and shape takes.
std::uint64_t size_of(const File& file, const StoredTensor& tensor) {
  std::uint64_t bits = traits_of(tensor.type).bits;
  for (const std::uint64_t dim : tensor.shape) {
    if (!checked_mul(bits, dim, &bits)) {
      fail(file, ErrorCode::invalid_file,
           "tensor " + quote(tensor.name) + ": the size of shape " + shape_text(tensor.shape) +
               " does not fit 64 bits",
           {{"tensor", tensor.name}});
    }
  }
  if (bits % 8 != 0) {
    fail(file, ErrorCode::invalid_file,
         "tensor " + quote(tensor.name) + ": shape " + shape_text(tensor.shape) + " of " +
             std::string(name_of(tensor.type)) + " does not fill whole bytes",
         {{"tensor", tensor.name}});
  }
  return bits / 8;
}

StoredTensor read_tensor(const File& file, std::uint64_t data_begin, JsonMember member) {
  StoredTensor tensor;
  tensor.name = member.key;
  tensor.type = read_type(file, member.key, member.value.get("dtype"));
  const JsonValue shape = member.value.get("shape");
  if (shape.size() > kMaxRank) shape.fail("at most 16 dimensions", std::to_string(shape.size()));
  for (const JsonValue dim : shape.elements()) tensor.shape.push_back(dim.as_size());

  const JsonValue offsets = member.value.get("data_offsets");
  if (!offsets.is(JsonType::array) || offsets.size() != 2)
    offsets.fail("two numbers, begin and end", "something else");
  const JsonRange<JsonValue> ends = offsets.elements();
  auto at = ends.begin();
  const std::uint64_t begin = (*at).as_size(), end = (*++at).as_size();
  const std::uint64_t data_bytes = file.size() - data_begin;
  if (begin > end || end > data_bytes) {
    fail(file, ErrorCode::invalid_file,
         "tensor " + quote(tensor.name) + " takes bytes " + std::to_string(begin) + " to " +
             std::to_string(end) + " of the data, of which there are " + std::to_string(data_bytes),
         {{"tensor", tensor.name}, {"begin", begin}, {"end", end}, {"expected", data_bytes}});
  }
  tensor.offset = data_begin + begin;
  tensor.bytes = end - begin;
  if (const std::uint64_t needed = size_of(file, tensor); needed != tensor.bytes) {
    fail(file, ErrorCode::invalid_file,
         "tensor " + quote(tensor.name) + ": shape " + shape_text(tensor.shape) + " of " +
             std::string(name_of(tensor.type)) + " takes " + std::to_string(needed) + " bytes, found " +
             std::to_string(tensor.bytes),
         {{"tensor", tensor.name}, {"expected", needed}, {"found", tensor.bytes}});
  }
  return tensor;
}

/// Sorts the tensors by place. Together they must be the file's data: no byte twice, none left out.
void check_coverage(const File& file, std::uint64_t data_begin, std::vector<StoredTensor>* tensors) {
  std::sort(tensors->begin(), tensors->end(), [](const StoredTensor& a, const StoredTensor& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes;
  });
  std::uint64_t next = data_begin;
  for (const StoredTensor& tensor : *tensors) {
    if (tensor.offset != next) {
      fail(file, ErrorCode::invalid_file,
           "tensor " + quote(tensor.name) + " begins at byte " + std::to_string(tensor.offset) +
               "; expected " + std::to_string(next) + ", where the one before it ends",
           {{"tensor", tensor.name}, {"expected", next}, {"found", tensor.offset}});
    }
    next += tensor.bytes;
  }
  if (next != file.size()) {
    fail(file, ErrorCode::invalid_file,
         "the tensors end at byte " + std::to_string(next) + ", but the file has " +
             std::to_string(file.size()) + " bytes",
         {{"expected", next}, {"found", file.size()}});
  }
}

}  // namespace

std::vector<StoredTensor> read_safetensors(const File& file, std::uint32_t file_index) {
  std::string text = read_header(file);
  const std::uint64_t data_begin = kLengthBytes + text.size();
  const JsonDocument header =
      JsonDocument::parse(std::move(text), file.path() + ": the header",
                          {.max_bytes = kMaxSafetensorsHeaderBytes, .max_depth = kMaxDepth});
  if (header.root().size() > kMaxStoredTensors) {
    fail(file, ErrorCode::unsupported_file,
         "the file has " + std::to_string(header.root().size()) + " tensors; at most " +
             std::to_string(kMaxStoredTensors) + " are supported");
  }
  std::vector<StoredTensor> tensors;
  tensors.reserve(header.root().size());
  for (const JsonMember member : header.root().members()) {
    if (member.key == "__metadata__") {
      for (const JsonMember entry : member.value.members()) (void)entry.value.as_string();
      continue;
    }
    tensors.push_back(read_tensor(file, data_begin, member));
    tensors.back().file_index = file_index;
  }
  check_coverage(file, data_begin, &tensors);
  return tensors;
}

}  // namespace cria
