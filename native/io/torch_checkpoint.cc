#include "io/torch_checkpoint.h"

#include <algorithm>
#include <map>
#include <string>
#include <string_view>

#include "core/error.h"
#include "io/byte_cursor.h"
#include "io/file_error.h"
#include "io/file_kind.h"
#include "io/name_index.h"
#include "io/pickle.h"
#include "io/zip.h"

namespace cria {
namespace {

constexpr std::uint64_t kMaxPickleBytes = std::uint64_t{64} << 20;
constexpr std::string_view kPickle = "data.pkl";

[[noreturn]] void fail(const File& file, ErrorCode code, const std::string& message,
                       std::vector<ErrorDetail> details = {}) {
  details.insert(details.begin(), {"path", file.path()});
  throw Error(code, file.path() + ": " + message, std::move(details));
}

void check_kind(const File& file) {
  std::vector<std::uint8_t> head(
      static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), kFileKindBytes)));
  file.read_at(0, head.data(), head.size());
  const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
  if (text.starts_with("PK\x03\x04")) return;
  const std::string found = describe_file_kind(head, file.size());
  const bool old = text.starts_with("\x80");
  fail(file, old ? ErrorCode::unsupported_file : ErrorCode::invalid_file,
       "expected a PyTorch checkpoint, a ZIP archive, found " + found,
       {{"expected", "a PyTorch checkpoint"}, {"found", found}});
}

using Entries = std::map<std::string_view, const ZipEntry*>;

std::string text_of(const File& file, const ZipEntry& entry, std::uint64_t max_bytes) {
  if (entry.bytes > max_bytes) {
    fail(file, ErrorCode::unsupported_file,
         quote(entry.name) + " has " + std::to_string(entry.bytes) + " bytes; at most " +
             std::to_string(max_bytes) + " are supported");
  }
  std::string text(static_cast<std::size_t>(entry.bytes), '\0');
  file.read_at(entry.offset, text.data(), text.size());
  return text;
}

/// The number of elements, where the strides are those of C order; a dimension of 1 may have any.
std::uint64_t contiguous_elements(const File& file, const PickledTensor& tensor) {
  if (tensor.strides.size() != tensor.shape.size())
    fail(file, ErrorCode::invalid_file,
         "tensor " + quote(tensor.name) + ": size and stride of different ranks");
  std::uint64_t elements = 1;
  for (std::size_t d = tensor.shape.size(); d-- > 0;) {
    if (tensor.shape[d] != 1 && tensor.strides[d] != elements) {
      fail(file, ErrorCode::unsupported_file,
           "tensor " + quote(tensor.name) + ": expected contiguous data of shape " +
               shape_text(tensor.shape) + ", found the strides " + shape_text(tensor.strides),
           {{"tensor", tensor.name}});
    }
    if (!checked_mul(elements, tensor.shape[d], &elements))
      fail(file, ErrorCode::invalid_file,
           "tensor " + quote(tensor.name) + ": the size of shape " + shape_text(tensor.shape) +
               " does not fit 64 bits",
           {{"tensor", tensor.name}});
  }
  return elements;
}

StoredTensor place(const File& file, const Entries& entries, const std::string& prefix,
                   PickledTensor tensor) {
  const auto at = entries.find(prefix + "data/" + tensor.storage);
  if (at == entries.end()) {
    fail(file, ErrorCode::invalid_file,
         "tensor " + quote(tensor.name) + ": its data " + quote(tensor.storage) + " are missing",
         {{"tensor", tensor.name}});
  }
  const ZipEntry& data = *at->second;
  const std::uint64_t element_bytes = traits_of(tensor.type).bits / 8;
  std::uint64_t storage_bytes = 0, end = 0;
  if (!checked_mul(tensor.storage_elements, element_bytes, &storage_bytes) || storage_bytes != data.bytes) {
    fail(file, ErrorCode::invalid_file,
         "tensor " + quote(tensor.name) + ": its storage has " + std::to_string(tensor.storage_elements) +
             " elements of " + std::to_string(element_bytes) + " bytes, but its data have " +
             std::to_string(data.bytes) + " bytes",
         {{"tensor", tensor.name}, {"found", data.bytes}});
  }
  const std::uint64_t elements = contiguous_elements(file, tensor);
  if (!checked_add(tensor.first, elements, &end) || end > tensor.storage_elements) {
    fail(file, ErrorCode::invalid_file,
         "tensor " + quote(tensor.name) + ": " + std::to_string(elements) + " elements from element " +
             std::to_string(tensor.first) + " on are more than the " +
             std::to_string(tensor.storage_elements) + " of its storage",
         {{"tensor", tensor.name}, {"found", end}, {"expected", tensor.storage_elements}});
  }
  return {.name = std::move(tensor.name),
          .type = tensor.type,
          .shape = std::move(tensor.shape),
          .file_index = 0,
          .offset = data.offset + tensor.first * element_bytes,
          .bytes = elements * element_bytes};
}

}  // namespace

std::vector<StoredTensor> read_torch_checkpoint(const File& file, std::uint32_t file_index) {
  check_kind(file);
  const std::vector<ZipEntry> list = read_zip(file);
  Entries entries;
  const ZipEntry* pickle = nullptr;
  for (const ZipEntry& entry : list) {
    entries[entry.name] = &entry;
    const std::string_view name = entry.name;
    if (name != kPickle && !name.ends_with("/data.pkl")) continue;
    if (pickle != nullptr)
      fail(file, ErrorCode::invalid_file, "two pickles: " + quote(pickle->name) + " and " + quote(name));
    pickle = &entry;
  }
  if (pickle == nullptr)
    fail(file, ErrorCode::invalid_file, "expected a PyTorch checkpoint, found no data.pkl");
  const std::string prefix = pickle->name.substr(0, pickle->name.size() - kPickle.size());
  if (const auto order = entries.find(prefix + "byteorder");
      order != entries.end() && text_of(file, *order->second, 16) != "little")
    fail(file, ErrorCode::unsupported_file, "the checkpoint is big endian; only little endian is supported");

  const std::string program = text_of(file, *pickle, kMaxPickleBytes);
  std::vector<StoredTensor> tensors;
  for (PickledTensor& tensor : read_pickled_tensors(program, file.path() + ": " + pickle->name)) {
    tensors.push_back(place(file, entries, prefix, std::move(tensor)));
    tensors.back().file_index = file_index;
  }
  const auto name_of_tensor = [](const StoredTensor& tensor) -> std::string_view { return tensor.name; };
  if (const auto twice = first_duplicate(tensors, sorted_by_name(tensors, name_of_tensor), name_of_tensor))
    fail(file, ErrorCode::invalid_file, "two tensors are named " + quote(tensors[twice->first].name));
  return tensors;
}

}  // namespace cria
