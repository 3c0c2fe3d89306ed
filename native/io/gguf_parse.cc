#include "io/gguf_parse.h"

#include <array>
#include <string>

#include "core/error.h"
#include "io/byte_cursor.h"
#include "io/file_error.h"
#include "io/file_kind.h"
#include "io/name_index.h"

namespace cria {
namespace {

constexpr std::uint32_t kMagic = 0x46554747;         // "GGUF"
constexpr std::uint32_t kSwappedMagic = 0x47475546;  // "FUGG"
// Limits of the specification.
constexpr std::uint64_t kMaxKeyBytes = 65535;
constexpr std::uint64_t kMaxTensorNameBytes = 64;
constexpr std::uint32_t kMaxRank = 4;
// The smallest metadata entry: length of the key, key, type, value.
constexpr std::uint64_t kMinMetadataBytes = 8 + 1 + 4 + 1;
// The smallest tensor description: length of the name, name, rank, dimension, type, offset.
constexpr std::uint64_t kMinTensorInfoBytes = 8 + 1 + 4 + 8 + 4 + 8;
constexpr std::uint64_t kDefaultAlignment = 32;

struct NamedType {
  std::uint32_t id;
  std::string_view name;
};

// ggml's types that cria does not read, so that an error can name them. Source: ggml.h, enum ggml_type.
constexpr NamedType kUnsupportedTypes[] = {
    {4, "Q4_2"},      {5, "Q4_3"},      {9, "Q8_1"},        {15, "Q8_K"},       {24, "I8"},
    {25, "I16"},      {26, "I32"},      {27, "I64"},        {28, "F64"},        {31, "Q4_0_4_4"},
    {32, "Q4_0_4_8"}, {33, "Q4_0_8_8"}, {36, "IQ4_NL_4_4"}, {37, "IQ4_NL_4_8"}, {38, "IQ4_NL_8_8"},
};

std::string describe_tensor_type(std::uint32_t id) {
  for (const NamedType& type : kUnsupportedTypes)
    if (type.id == id) return std::string(type.name) + " (type id " + std::to_string(id) + ")";
  return "unknown type id " + std::to_string(id);
}

/// Bytes of one element of a metadata array; 0 for strings and arrays.
std::uint32_t element_bytes(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean: return 1;
    case GgufType::u16:
    case GgufType::i16: return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32: return 4;
    case GgufType::u64:
    case GgufType::i64:
    case GgufType::f64: return 8;
    case GgufType::string:
    case GgufType::array: return 0;
  }
  return 0;
}

}  // namespace

/// Reads one file from front to back (prologue, metadata, tensor descriptions), then checks where the
/// tensors' data lie.
class GgufPartParser {
 public:
  GgufPartParser(const File& file, std::uint32_t file_index)
      : file_(file), file_index_(file_index), cursor_(file, kMaxGgufHeaderBytes) {}

  GgufPart run() {
    read_prologue();
    read_metadata();
    read_tensors();
    place_tensors();
    return std::move(part_);
  }

 private:
  void read_prologue();
  void read_metadata();
  void read_tensors();
  void place_tensors();

  GgufType read_type(std::string_view what);
  GgufValue read_value(GgufType type);
  bool read_bool();
  GgufArray read_array(const std::string& key);
  void read_strings(GgufArray* array);
  GgufTensor read_tensor();
  void check_duplicate_keys() const;
  void check_duplicate_tensors() const;
  std::uint64_t alignment() const;
  void check_overlaps() const;

  const File& file_;
  std::uint32_t file_index_;
  ByteCursor cursor_;
  std::uint64_t metadata_count_ = 0;
  std::uint64_t tensor_count_ = 0;
  GgufPart part_;
};

void GgufPartParser::read_prologue() {
  std::array<std::uint8_t, kFileKindBytes> head;
  const auto head_bytes = static_cast<std::size_t>(std::min<std::uint64_t>(head.size(), file_.size()));
  file_.read_at(0, head.data(), head_bytes);
  std::uint32_t magic = 0;
  if (head_bytes >= sizeof(magic)) std::memcpy(&magic, head.data(), sizeof(magic));
  if (magic == kSwappedMagic)
    cursor_.fail(ErrorCode::unsupported_file, "the GGUF file is big endian; only little endian is supported");
  if (magic != kMagic) {
    const std::string found = describe_file_kind({head.data(), head_bytes}, file_.size());
    cursor_.fail(ErrorCode::invalid_file, "expected a GGUF file, found " + found,
                 {{"expected", "a GGUF file"}, {"found", found}});
  }
  cursor_.skip(sizeof(magic), "the magic");

  cursor_.set_context("header");
  const std::uint64_t version_at = cursor_.position();
  const auto version = cursor_.read<std::uint32_t>("the version");
  // In the other byte order, a version below 2^16 has only its upper bits set.
  if (version != 0 && (version & 0xffff) == 0) {
    cursor_.fail_at(version_at, ErrorCode::unsupported_file,
                    "the GGUF file is big endian; only little endian is supported",
                    {{"expected", "little endian"}, {"found", "big endian"}});
  }
  if (version != 2 && version != 3) {
    cursor_.fail_at(version_at, ErrorCode::unsupported_file,
                    "GGUF version " + std::to_string(version) + " is not supported; expected 2 or 3",
                    {{"expected", "2 or 3"}, {"found", version}});
  }
  part_.version = version;
  tensor_count_ = cursor_.read<std::uint64_t>("the tensor count");
  metadata_count_ = cursor_.read<std::uint64_t>("the metadata count");

  const auto check_count = [&](std::uint64_t count, std::uint64_t min_bytes, std::uint64_t limit,
                               const std::string& what) {
    cursor_.require(count, min_bytes, "the list of " + what);
    if (count > limit) {
      cursor_.fail(ErrorCode::unsupported_file,
                   "the file has " + std::to_string(count) + " " + what + "; at most " +
                       std::to_string(limit) + " are supported",
                   {{"expected", limit}, {"found", count}});
    }
  };
  check_count(metadata_count_, kMinMetadataBytes, kMaxGgufMetadata, "metadata entries");
  check_count(tensor_count_, kMinTensorInfoBytes, kMaxGgufTensors, "tensors");
}

// ---- metadata ----

void GgufPartParser::read_metadata() {
  part_.metadata.reserve(static_cast<std::size_t>(metadata_count_));
  part_.metadata_types.reserve(static_cast<std::size_t>(metadata_count_));
  for (std::uint64_t i = 0; i < metadata_count_; ++i) {
    cursor_.set_context("metadata entry " + std::to_string(i));
    std::string key = cursor_.read_string(kMaxKeyBytes, "the key");
    if (key.empty()) cursor_.fail(ErrorCode::invalid_file, "the key is empty");
    cursor_.set_context("metadata key " + quote(key));
    const GgufType type = read_type("the value type");
    part_.metadata_types.push_back(type);
    if (type == GgufType::array) {
      GgufArray array = read_array(key);
      part_.metadata.emplace_back(std::move(key), std::move(array));
    } else {
      GgufValue value = read_value(type);
      part_.metadata.emplace_back(std::move(key), std::move(value));
    }
  }
  check_duplicate_keys();
}

GgufType GgufPartParser::read_type(std::string_view what) {
  const std::uint64_t at = cursor_.position();
  const auto id = cursor_.read<std::uint32_t>(what);
  if (id > static_cast<std::uint32_t>(GgufType::f64)) {
    cursor_.fail_at(at, ErrorCode::invalid_file,
                    std::string(what) + " is " + std::to_string(id) + "; expected 0 to 12",
                    {{"expected", "0 to 12"}, {"found", id}});
  }
  return static_cast<GgufType>(id);
}

GgufValue GgufPartParser::read_value(GgufType type) {
  constexpr std::string_view kWhat = "the value";
  switch (type) {
    case GgufType::u8: return std::uint64_t{cursor_.read<std::uint8_t>(kWhat)};
    case GgufType::u16: return std::uint64_t{cursor_.read<std::uint16_t>(kWhat)};
    case GgufType::u32: return std::uint64_t{cursor_.read<std::uint32_t>(kWhat)};
    case GgufType::u64: return cursor_.read<std::uint64_t>(kWhat);
    case GgufType::i8: return std::int64_t{cursor_.read<std::int8_t>(kWhat)};
    case GgufType::i16: return std::int64_t{cursor_.read<std::int16_t>(kWhat)};
    case GgufType::i32: return std::int64_t{cursor_.read<std::int32_t>(kWhat)};
    case GgufType::i64: return cursor_.read<std::int64_t>(kWhat);
    case GgufType::f32: return double{cursor_.read<float>(kWhat)};
    case GgufType::f64: return cursor_.read<double>(kWhat);
    case GgufType::boolean: return read_bool();
    case GgufType::string: return cursor_.read_string(kMaxGgufHeaderBytes, kWhat);
    case GgufType::array: break;  // read_array
  }
  throw Error(ErrorCode::internal, "GGUF: a value type without a reader");
}

bool GgufPartParser::read_bool() {
  const std::uint64_t at = cursor_.position();
  const auto byte = cursor_.read<std::uint8_t>("the value");
  if (byte > 1) {
    cursor_.fail_at(at, ErrorCode::invalid_file, "a bool is " + std::to_string(byte) + "; expected 0 or 1",
                    {{"expected", "0 or 1"}, {"found", byte}});
  }
  return byte == 1;
}

GgufArray GgufPartParser::read_array(const std::string& key) {
  GgufArray array;
  array.key_ = key;
  array.element_type_ = read_type("the array's element type");
  if (array.element_type_ == GgufType::array)
    cursor_.fail(ErrorCode::unsupported_file, "an array of arrays is not supported");
  const auto count = cursor_.read<std::uint64_t>("the array's length");
  const std::uint32_t bytes = element_bytes(array.element_type_);
  cursor_.require(count, bytes == 0 ? sizeof(std::uint64_t) : bytes, "the array");
  if (count > kMaxGgufArrayElements) {
    cursor_.fail(ErrorCode::unsupported_file,
                 "the array has " + std::to_string(count) + " elements; at most " +
                     std::to_string(kMaxGgufArrayElements) + " are supported",
                 {{"expected", kMaxGgufArrayElements}, {"found", count}});
  }
  array.size_ = static_cast<std::size_t>(count);
  if (array.holds_strings()) {
    read_strings(&array);
    return array;
  }
  const std::uint64_t at = cursor_.position();
  array.bytes_.resize(array.size_ * bytes);
  cursor_.read_bytes(array.bytes_.data(), array.bytes_.size(), "the array");
  if (array.element_type_ == GgufType::boolean) {
    for (std::size_t i = 0; i < array.size_; ++i) {
      if (array.bytes_[i] > 1) {
        cursor_.fail_at(at + i, ErrorCode::invalid_file,
                        "bool " + std::to_string(i) + " of the array is " + std::to_string(array.bytes_[i]) +
                            "; expected 0 or 1",
                        {{"expected", "0 or 1"}, {"found", array.bytes_[i]}});
      }
    }
  }
  return array;
}

// Two passes: the first adds up the lengths, so that the second reads into memory of exactly the right size.
void GgufPartParser::read_strings(GgufArray* array) {
  constexpr std::string_view kWhat = "a string of the array";
  const std::uint64_t begin = cursor_.position();
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < array->size_; ++i) {
    const auto length = cursor_.read<std::uint64_t>(kWhat);
    cursor_.skip(length, kWhat);
    total += length;  // at most kMaxGgufHeaderBytes, where the cursor stops
  }
  cursor_.seek_back(begin);
  array->string_ends_.reserve(array->size_);
  array->bytes_.resize(static_cast<std::size_t>(total));
  std::size_t used = 0;
  for (std::size_t i = 0; i < array->size_; ++i) {
    const auto length = cursor_.read<std::uint64_t>(kWhat);
    if (length > total - used) cursor_.fail(ErrorCode::io, "the file changed while it was read");
    cursor_.read_bytes(array->bytes_.data() + used, static_cast<std::size_t>(length), kWhat);
    used += static_cast<std::size_t>(length);
    array->string_ends_.push_back(static_cast<std::uint32_t>(used));
  }
}

void GgufPartParser::check_duplicate_keys() const {
  const auto key_of = [](const auto& entry) -> std::string_view { return entry.first; };
  const auto twice = first_duplicate(part_.metadata, sorted_by_name(part_.metadata, key_of), key_of);
  if (!twice) return;
  const std::string& key = part_.metadata[twice->first].first;
  throw Error(ErrorCode::invalid_file,
              file_.path() + ": the metadata key " + quote(key) + " appears twice, as entries " +
                  std::to_string(twice->first) + " and " + std::to_string(twice->second),
              {{"path", file_.path()}, {"key", key}});
}

// ---- tensors ----

void GgufPartParser::read_tensors() {
  part_.tensors.reserve(static_cast<std::size_t>(tensor_count_));
  for (std::uint64_t i = 0; i < tensor_count_; ++i) {
    cursor_.set_context("tensor " + std::to_string(i));
    part_.tensors.push_back(read_tensor());
  }
  cursor_.set_context("");
  check_duplicate_tensors();
}

GgufTensor GgufPartParser::read_tensor() {
  GgufTensor tensor{};
  tensor.file_index = file_index_;
  tensor.name = cursor_.read_string(kMaxTensorNameBytes, "the name");
  if (tensor.name.empty()) cursor_.fail(ErrorCode::invalid_file, "the name is empty");
  cursor_.set_context("tensor " + quote(tensor.name));

  tensor.n_dims = cursor_.read<std::uint32_t>("the number of dimensions");
  if (tensor.n_dims < 1 || tensor.n_dims > kMaxRank) {
    cursor_.fail(ErrorCode::invalid_file,
                 "the tensor has " + std::to_string(tensor.n_dims) + " dimensions; expected 1 to 4",
                 {{"expected", "1 to 4"}, {"found", tensor.n_dims}});
  }
  std::uint64_t elements = 1;
  for (std::uint32_t d = 0; d < kMaxRank; ++d) {
    tensor.dims[d] = d < tensor.n_dims ? cursor_.read<std::uint64_t>("a dimension") : 1;
    if (tensor.dims[d] == 0)
      cursor_.fail(ErrorCode::invalid_file, "dimension " + std::to_string(d) + " is zero", {{"found", 0}});
    if (!checked_mul(elements, tensor.dims[d], &elements) || elements > INT64_MAX) {
      cursor_.fail(ErrorCode::invalid_file,
                   "the number of elements does not fit 63 bits: dimension " + std::to_string(d) + " is " +
                       std::to_string(tensor.dims[d]),
                   {{"found", tensor.dims[d]}});
    }
  }

  const auto type_id = cursor_.read<std::uint32_t>("the type");
  const DTypeTraits* type = find_dtype(type_id);
  if (type == nullptr || !type->is_weight) {
    const std::string found = describe_tensor_type(type_id);
    cursor_.fail(ErrorCode::unsupported_file, "the tensor is of " + found + ", which cria does not read",
                 {{"tensor", tensor.name}, {"found", found}, {"typeId", type_id}});
  }
  tensor.dtype = type->dtype;
  if (tensor.dims[0] % type->block_size != 0) {
    cursor_.fail(ErrorCode::invalid_file,
                 "dimension 0 is " + std::to_string(tensor.dims[0]) + ", not a multiple of " +
                     std::string(type->name) + "'s block size " + std::to_string(type->block_size),
                 {{"tensor", tensor.name},
                  {"expected", "a multiple of " + std::to_string(type->block_size)},
                  {"found", tensor.dims[0]}});
  }
  if (!checked_mul(elements / type->block_size, type->block_bytes, &tensor.bytes)) {
    cursor_.fail(ErrorCode::invalid_file, "the number of bytes does not fit 64 bits",
                 {{"tensor", tensor.name}, {"elements", elements}});
  }
  tensor.offset = cursor_.read<std::uint64_t>("the offset");  // place_tensors makes it absolute
  return tensor;
}

void GgufPartParser::check_duplicate_tensors() const {
  const auto name_of_tensor = [](const GgufTensor& t) -> std::string_view { return t.name; };
  const auto twice =
      first_duplicate(part_.tensors, sorted_by_name(part_.tensors, name_of_tensor), name_of_tensor);
  if (!twice) return;
  const std::string& name = part_.tensors[twice->first].name;
  throw Error(ErrorCode::invalid_file,
              file_.path() + ": the tensor name " + quote(name) + " appears twice, as tensors " +
                  std::to_string(twice->first) + " and " + std::to_string(twice->second),
              {{"path", file_.path()}, {"tensor", name}});
}

std::uint64_t GgufPartParser::alignment() const {
  for (std::size_t i = 0; i < part_.metadata.size(); ++i) {
    if (part_.metadata[i].first != "general.alignment") continue;
    const auto fail = [&](const std::string& found) {
      throw Error(ErrorCode::invalid_file,
                  file_.path() +
                      ": metadata key \"general.alignment\": expected a uint32 that is a power of two from "
                      "8 to " +
                      std::to_string(kMaxGgufAlignment) + ", found " + found,
                  {{"path", file_.path()}, {"key", "general.alignment"}, {"found", found}});
    };
    if (part_.metadata_types[i] != GgufType::u32) fail("a " + std::string(name_of(part_.metadata_types[i])));
    const auto value = std::get<std::uint64_t>(part_.metadata[i].second);
    if (value < 8 || value > kMaxGgufAlignment || !std::has_single_bit(value)) fail(std::to_string(value));
    return value;
  }
  return kDefaultAlignment;
}

// Offsets in the file count from the end of the descriptions, rounded up to the alignment.
void GgufPartParser::place_tensors() {
  const std::uint64_t align = alignment();
  if (part_.tensors.empty()) return;
  std::uint64_t data_begin = 0;
  if (!checked_align_up(cursor_.position(), align, &data_begin))
    cursor_.fail(ErrorCode::invalid_file, "the padding after the header does not fit 64 bits");
  for (GgufTensor& tensor : part_.tensors) {
    cursor_.set_context("tensor " + quote(tensor.name));
    const auto fail = [&](const std::string& message) {
      cursor_.fail_at(data_begin, ErrorCode::invalid_file, message,
                      {{"tensor", tensor.name},
                       {"tensorOffset", tensor.offset},
                       {"tensorBytes", tensor.bytes},
                       {"fileBytes", file_.size()}});
    };
    if (tensor.offset % align != 0) {
      fail("its offset " + std::to_string(tensor.offset) + " is not a multiple of the alignment " +
           std::to_string(align));
    }
    std::uint64_t begin = 0, end = 0;
    if (!checked_add(data_begin, tensor.offset, &begin) || !checked_add(begin, tensor.bytes, &end))
      fail("its offset " + std::to_string(tensor.offset) + " plus its size wraps around 64 bits");
    if (end > file_.size()) {
      fail("it ends at byte " + std::to_string(end) + ", but the file has " + std::to_string(file_.size()) +
           " bytes; it is truncated or damaged");
    }
    tensor.offset = begin;
  }
  cursor_.set_context("");
  check_overlaps();
}

void GgufPartParser::check_overlaps() const {
  std::vector<const GgufTensor*> by_offset;
  by_offset.reserve(part_.tensors.size());
  for (const GgufTensor& tensor : part_.tensors) by_offset.push_back(&tensor);
  std::sort(by_offset.begin(), by_offset.end(),
            [](const GgufTensor* a, const GgufTensor* b) { return a->offset < b->offset; });
  for (std::size_t i = 1; i < by_offset.size(); ++i) {
    const GgufTensor& before = *by_offset[i - 1];
    const GgufTensor& after = *by_offset[i];
    if (before.offset + before.bytes <= after.offset) continue;
    throw Error(ErrorCode::invalid_file,
                file_.path() + ": the tensors " + quote(before.name) + " and " + quote(after.name) +
                    " overlap: the first takes bytes " + std::to_string(before.offset) + " to " +
                    std::to_string(before.offset + before.bytes) + ", the second begins at " +
                    std::to_string(after.offset),
                {{"path", file_.path()}, {"tensor", before.name}, {"other", after.name}});
  }
}

GgufPart parse_gguf_part(const File& file, std::uint32_t file_index) {
  return GgufPartParser(file, file_index).run();
}

}  // namespace cria
