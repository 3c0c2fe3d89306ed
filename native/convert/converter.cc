#include "convert/converter.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "core/huge_memory.h"
#include "io/gguf_writer.h"

namespace cria {
namespace {

// Bytes of the file that a thread writes at a time.
constexpr std::uint64_t kPieceBytes = 1 << 20;

struct Piece {
  std::size_t tensor;
  std::uint64_t offset, bytes;
};

/// Pieces of whole blocks, in the order of the file.
std::vector<Piece> pieces_of(const ModelSource& model) {
  std::vector<Piece> pieces;
  for (std::size_t i = 0; i < model.tensors().size(); i++) {
    const GgufTensor& tensor = model.tensors()[i];
    const std::uint64_t block = traits_of(tensor.dtype).block_bytes;
    // A super-block of any type lies in one piece, so that none is quantized twice.
    const std::uint64_t step = std::max<std::uint64_t>(kPieceBytes / (256 * block), 1) * (256 * block);
    for (std::uint64_t at = 0; at < tensor.bytes; at += step)
      pieces.push_back({i, at, std::min(step, tensor.bytes - at)});
  }
  return pieces;
}

}  // namespace

ConvertResult write_model(const ModelSource& model, const std::string& path, int threads,
                          const ConvertProgress& progress, const CancelFlag& cancel) {
  cancel.check();
  GgufWriter writer(path);
  for (std::size_t i = 0; i < model.metadata().size(); i++)
    writer.set(model.metadata()[i].first, model.metadata_type(i), model.metadata()[i].second);
  ConvertResult result;
  std::uint64_t total = 0;
  for (const GgufTensor& tensor : model.tensors()) {
    writer.add_tensor(tensor.name, tensor.dtype, {tensor.dims, tensor.dims + tensor.n_dims});
    result.bytes_by_type[std::string(name_of(tensor.dtype))] += tensor.bytes;
    total += tensor.bytes;
  }
  result.source_bytes = model.total_file_bytes();
  writer.begin();

  const std::vector<Piece> pieces = pieces_of(model);
  std::atomic<std::size_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;  // guards what follows
  std::exception_ptr error;
  std::uint64_t done = 0;
  const auto write_pieces = [&] {
    try {
      std::vector<std::byte> buffer;
      for (std::size_t i; (i = next.fetch_add(1)) < pieces.size() && !failed.load();) {
        cancel.check();
        const Piece& piece = pieces[i];
        buffer.resize(static_cast<std::size_t>(piece.bytes));
        model.read(model.tensors()[piece.tensor], piece.offset, buffer.data(), buffer.size());
        writer.write(piece.tensor, piece.offset, buffer.data(), buffer.size());
        const std::lock_guard lock(mutex);
        done += piece.bytes;
        if (progress) progress(done, total);
      }
    } catch (...) {
      failed.store(true);
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
  };
  std::vector<std::thread> helpers;
  const int wanted = threads > 0 ? threads : usable_cores();
  try {
    for (int i = 1; i < wanted; i++) helpers.emplace_back(write_pieces);
  } catch (const std::system_error&) {
    // The system has no more threads: this one writes what is left.
  }
  write_pieces();
  for (std::thread& helper : helpers) helper.join();
  if (error) std::rethrow_exception(error);
  cancel.check();
  writer.commit();
  result.file_bytes = writer.file_bytes();
  return result;
}

}  // namespace cria
