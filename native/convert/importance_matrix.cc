#include "convert/importance_matrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "io/byte_cursor.h"
#include "io/file_error.h"
#include "io/gguf.h"
#include "io/gguf_writer.h"

namespace cria {
namespace {

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";
// Limits beyond any real file, for untrusted ones.
constexpr std::uint64_t kMaxColumns = 1 << 24;
constexpr std::uint64_t kMaxMatrices = 1 << 16;
constexpr std::uint64_t kMaxBytes = std::uint64_t{4} << 30;
constexpr std::uint64_t kMaxNameBytes = 1 << 12;
// Beyond any activation; keeps the sums of quantizers finite.
constexpr float kMaxMean = 1e30f;
constexpr std::uint32_t kGgufMagic = 0x46554747;

using Entry = ImportanceMatrix::Entry;

[[noreturn]] void fail(const std::string& path, const std::string& message,
                       std::vector<ErrorDetail> details = {}) {
  details.insert(details.begin(), {"path", path});
  throw Error(ErrorCode::invalid_file, path + ": " + message, std::move(details));
}

void check_numbers(const std::string& path, const std::string& name, const std::vector<float>& numbers) {
  for (const float x : numbers)
    if (!std::isfinite(x) || x < 0)
      fail(path,
           "the importance of " + quote(name) + ": expected finite numbers of at least 0, found " +
               number_text(x),
           {{"tensor", name}});
}

std::vector<float> read_floats(const GgufFile& file, const GgufTensor& tensor) {
  std::vector<float> values(tensor.elements());
  file.read(tensor, 0, values.data(), values.size() * sizeof(float));
  return values;
}

Entry read_entry(const GgufFile& file, const std::string& name, const GgufTensor& sums) {
  const GgufTensor* counts = file.find_tensor(name + std::string(kCounts));
  if (counts == nullptr) fail(file.path(), "expected a tensor " + quote(name + std::string(kCounts)));
  Entry entry{.cols = sums.dims[0], .matrices = sums.dims[1], .sums = {}, .counts = {}};
  const bool fits = sums.dtype == DType::f32 && counts->dtype == DType::f32 &&
                    sums.dims[2] * sums.dims[3] == 1 && counts->elements() == entry.matrices &&
                    entry.cols <= kMaxColumns && entry.matrices <= kMaxMatrices;
  if (!fits)
    fail(file.path(),
         "the importance of " + quote(name) + ": expected F32 tensors [cols, matrices] and [1, matrices]",
         {{"tensor", name}});
  entry.sums = read_floats(file, sums);
  entry.counts = read_floats(file, *counts);
  check_numbers(file.path(), name, entry.sums);
  check_numbers(file.path(), name, entry.counts);
  return entry;
}

ImportanceMatrix read_gguf(std::shared_ptr<const File> file) {
  const GgufFile gguf = GgufFile::open(std::move(file), File::open);
  const std::string type = gguf.find_string("general.type").value_or("");
  if (type != "imatrix")
    fail(gguf.path(),
         "expected an importance matrix (general.type \"imatrix\"), found a GGUF file of the type " +
             quote(type),
         {{"expected", "imatrix"}, {"found", type}});
  ImportanceMatrix matrix;
  matrix.chunk_count = gguf.find_uint("imatrix.chunk_count").value_or(0);
  matrix.chunk_size = gguf.find_uint("imatrix.chunk_size").value_or(0);
  if (const GgufArray* names = gguf.find_array("imatrix.datasets"))
    for (std::size_t i = 0; i < names->size(); ++i) matrix.datasets.emplace_back(names->string_at(i));
  std::uint64_t bytes = 0;
  for (const GgufTensor& tensor : gguf.tensors()) bytes += tensor.bytes;  // all lie in the file
  if (bytes > kMaxBytes) fail(gguf.path(), "the importance matrix is too large", {{"found", bytes}});
  for (const GgufTensor& tensor : gguf.tensors()) {
    if (!tensor.name.ends_with(kSums)) continue;
    std::string name = tensor.name.substr(0, tensor.name.size() - kSums.size());
    Entry entry = read_entry(gguf, name, tensor);
    matrix.entries.emplace(std::move(name), std::move(entry));
  }
  return matrix;
}

/// int32 entries, each: int32 length, name, int32 calls, int32 n, float[n]; then, in later files, int32
/// chunks and the name of the text with its length. The sums are those of one activation a call.
ImportanceMatrix read_legacy(const File& file) {
  ByteCursor cursor(file, file.size());
  cursor.set_context("an importance matrix of the old form");
  const auto count = [&](std::string_view what, std::uint64_t max) {
    const auto value = cursor.read<std::int32_t>(what);
    if (value < 1 || static_cast<std::uint64_t>(value) > max)
      cursor.fail(ErrorCode::invalid_file,
                  "expected " + std::string(what) + " of 1 to " + std::to_string(max) + ", found " +
                      std::to_string(value),
                  {{"found", value}});
    return static_cast<std::uint64_t>(value);
  };
  const auto text = [&](std::string_view what) {
    std::string value(static_cast<std::size_t>(count(what, kMaxNameBytes)), '\0');
    cursor.read_bytes(value.data(), value.size(), what);
    return value;
  };
  ImportanceMatrix matrix;
  for (std::uint64_t n = count("a number of entries", 1 << 20); n > 0; --n) {
    const std::string name = text("a length of a name");
    const std::uint64_t calls = count("a number of calls", INT32_MAX);
    Entry entry{.cols = count("a number of columns", kMaxColumns), .matrices = 1, .sums = {}, .counts = {}};
    cursor.require(entry.cols, sizeof(float), "the importance of " + quote(name));
    entry.sums.resize(static_cast<std::size_t>(entry.cols));
    cursor.read_bytes(entry.sums.data(), entry.sums.size() * sizeof(float), "the importance");
    entry.counts = {static_cast<float>(calls)};
    check_numbers(file.path(), name, entry.sums);
    if (!matrix.entries.emplace(name, std::move(entry)).second)
      fail(file.path(), "the importance of " + quote(name) + " appears twice", {{"tensor", name}});
  }
  if (cursor.remaining() > 0) {
    matrix.chunk_count = static_cast<std::uint64_t>(std::max(cursor.read<std::int32_t>("the chunks"), 0));
    if (cursor.remaining() > 0) matrix.datasets.push_back(text("a length of the text's name"));
  }
  return matrix;
}

}  // namespace

std::vector<float> ImportanceMatrix::Entry::means(std::uint64_t matrix) const {
  const auto first = sums.begin() + static_cast<std::ptrdiff_t>(matrix * cols);
  std::vector<float> means(first, first + static_cast<std::ptrdiff_t>(cols));
  const float count = counts.at(static_cast<std::size_t>(matrix));
  for (float& m : means) m = count > 0 ? std::min(m / count, kMaxMean) : 1.0f;
  return means;
}

ImportanceMatrix ImportanceMatrix::read(const std::string& path) { return read(File::open(path)); }

ImportanceMatrix ImportanceMatrix::read(std::shared_ptr<const File> file) {
  std::uint32_t magic = 0;
  if (file->size() >= sizeof(magic)) file->read_at(0, &magic, sizeof(magic));
  std::string path = file->path();
  ImportanceMatrix matrix = magic == kGgufMagic ? read_gguf(std::move(file)) : read_legacy(*file);
  if (matrix.entries.empty()) fail(path, "expected an importance matrix, found no entry");
  matrix.path = std::move(path);
  return matrix;
}

void ImportanceMatrix::write(const std::string& to) const {
  GgufWriter writer(to);
  writer.set("general.type", GgufType::string, std::string("imatrix"));
  writer.set("imatrix.datasets", GgufType::array, GgufArray::of("imatrix.datasets", datasets));
  writer.set("imatrix.chunk_count", GgufType::u32, chunk_count);
  writer.set("imatrix.chunk_size", GgufType::u32, chunk_size);
  for (const auto& [name, entry] : entries) {
    writer.add_tensor(name + std::string(kSums), DType::f32, {entry.cols, entry.matrices});
    writer.add_tensor(name + std::string(kCounts), DType::f32, {1, entry.matrices});
  }
  writer.begin();
  std::size_t tensor = 0;
  for (const auto& [name, entry] : entries) {
    writer.write(tensor++, 0, entry.sums.data(), entry.sums.size() * sizeof(float));
    writer.write(tensor++, 0, entry.counts.data(), entry.counts.size() * sizeof(float));
  }
  writer.commit();
}

}  // namespace cria
