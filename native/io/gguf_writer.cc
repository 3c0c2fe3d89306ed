#include "io/gguf_writer.h"

#include <algorithm>
#include <bit>

#include "core/error.h"
#include "io/file_error.h"
#include "io/name_index.h"

namespace cria {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little endian and are not converted");

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr std::uint32_t kVersion = 3;
// The specification's default, so that no key needs to name it.
constexpr std::uint64_t kAlignment = 32;
constexpr std::size_t kMaxNameBytes = 64;

constexpr std::uint64_t align_up(std::uint64_t value) {
  return (value + kAlignment - 1) / kAlignment * kAlignment;
}

template <typename T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}
void put_text(std::string& out, std::string_view text) {
  put(out, static_cast<std::uint64_t>(text.size()));
  out += text;
}

[[noreturn]] void throw_kind(const std::string& key, GgufType type) {
  throw Error(ErrorCode::internal, "the value of " + quote(key) + " is no " + std::string(name_of(type)));
}

std::uint64_t as_integer_bits(const std::string& key, GgufType type, const GgufValue& value) {
  if (const auto* u = std::get_if<std::uint64_t>(&value)) return *u;
  if (const auto* i = std::get_if<std::int64_t>(&value)) return static_cast<std::uint64_t>(*i);
  throw_kind(key, type);
}
template <typename T>
const T& as(const std::string& key, GgufType type, const GgufValue& value) {
  if (const auto* held = std::get_if<T>(&value)) return *held;
  throw_kind(key, type);
}

void put_array(std::string& out, const GgufArray& array) {
  put(out, static_cast<std::uint32_t>(array.element_type()));
  put(out, static_cast<std::uint64_t>(array.size()));
  if (!array.holds_strings()) {
    const std::span<const std::uint8_t> bytes = array.number_bytes();
    out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return;
  }
  for (std::size_t i = 0; i < array.size(); ++i) put_text(out, array.string_at(i));
}

void put_value(std::string& out, const std::string& key, GgufType type, const GgufValue& value) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8: return put(out, static_cast<std::uint8_t>(as_integer_bits(key, type, value)));
    case GgufType::u16:
    case GgufType::i16: return put(out, static_cast<std::uint16_t>(as_integer_bits(key, type, value)));
    case GgufType::u32:
    case GgufType::i32: return put(out, static_cast<std::uint32_t>(as_integer_bits(key, type, value)));
    case GgufType::u64:
    case GgufType::i64: return put(out, as_integer_bits(key, type, value));
    case GgufType::f32: return put(out, static_cast<float>(as<double>(key, type, value)));
    case GgufType::f64: return put(out, as<double>(key, type, value));
    case GgufType::boolean: return put(out, static_cast<std::uint8_t>(as<bool>(key, type, value)));
    case GgufType::string: return put_text(out, as<std::string>(key, type, value));
    case GgufType::array: return put_array(out, as<GgufArray>(key, type, value));
  }
  throw_kind(key, type);
}

}  // namespace

GgufWriter::GgufWriter(const std::string& path) : file_(path, AtomicFile::kReadableByOthers) {}

void GgufWriter::set(const std::string& key, GgufType type, GgufValue value) {
  const auto known =
      std::find_if(metadata_.begin(), metadata_.end(), [&](const auto& entry) { return entry.first == key; });
  if (known == metadata_.end()) {
    metadata_.emplace_back(key, std::move(value));
    types_.push_back(type);
    return;
  }
  known->second = std::move(value);
  types_[static_cast<std::size_t>(known - metadata_.begin())] = type;
}

std::size_t GgufWriter::add_tensor(const std::string& name, DType dtype, std::vector<std::uint64_t> dims) {
  std::uint64_t elements = 1;
  for (const std::uint64_t d : dims) elements *= d;
  if (name.empty() || name.size() > kMaxNameBytes || dims.empty() ||
      dims[0] % traits_of(dtype).block_size != 0)
    throw Error(ErrorCode::internal, "GgufWriter: the tensor " + quote(name) + " cannot be stored as " +
                                         std::string(cria::name_of(dtype)));
  tensors_.push_back({.name = name,
                      .dtype = dtype,
                      .dims = std::move(dims),
                      .offset = 0,
                      .bytes = row_bytes(dtype, static_cast<std::size_t>(elements))});
  return tensors_.size() - 1;
}

std::string GgufWriter::header(std::uint64_t* data_begin) const {
  std::string out;
  put(out, kMagic);
  put(out, kVersion);
  put(out, static_cast<std::uint64_t>(tensors_.size()));
  put(out, static_cast<std::uint64_t>(metadata_.size()));
  for (std::size_t i = 0; i < metadata_.size(); ++i) {
    const auto& [key, value] = metadata_[i];
    put_text(out, key);
    put(out, static_cast<std::uint32_t>(types_[i]));
    put_value(out, key, types_[i], value);
  }
  for (const Tensor& tensor : tensors_) {
    put_text(out, tensor.name);
    put(out, static_cast<std::uint32_t>(tensor.dims.size()));
    for (const std::uint64_t d : tensor.dims) put(out, d);
    put(out, static_cast<std::uint32_t>(tensor.dtype));
    put(out, tensor.offset);
  }
  *data_begin = align_up(out.size());
  out.resize(*data_begin, '\0');
  return out;
}

void GgufWriter::begin() {
  const auto order = sorted_by_name(tensors_, [](const Tensor& t) -> std::string_view { return t.name; });
  if (first_duplicate(tensors_, order, [](const Tensor& t) -> std::string_view { return t.name; }))
    throw Error(ErrorCode::internal, "GgufWriter: two tensors have the same name");
  std::uint64_t end = 0;
  for (Tensor& tensor : tensors_) {
    tensor.offset = end;
    end = align_up(end + tensor.bytes);
  }
  std::uint64_t data_begin = 0;
  const std::string bytes = header(&data_begin);
  file_.write_at(0, bytes.data(), bytes.size());
  for (Tensor& tensor : tensors_) tensor.offset += data_begin;
  file_bytes_ = data_begin + end;
  // What follows the last tensor. Between tensors, the file's holes read as zeros.
  if (!tensors_.empty()) {
    const std::uint64_t used = tensors_.back().offset + tensors_.back().bytes;
    const std::vector<char> padding(file_bytes_ - used, '\0');
    file_.write_at(used, padding.data(), padding.size());
  }
}

void GgufWriter::write(std::size_t tensor, std::uint64_t offset, const void* src, std::size_t bytes) {
  const Tensor& to = tensors_.at(tensor);
  if (offset > to.bytes || bytes > to.bytes - offset)
    throw Error(ErrorCode::internal, "GgufWriter: more data than the tensor " + quote(to.name) + " has");
  file_.write_at(to.offset + offset, src, bytes);
}

void GgufWriter::commit() { file_.commit(); }

}  // namespace cria
