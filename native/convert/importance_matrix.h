// Importance matrices: for each weight matrix, the mean square of the activations that each of its columns is
// multiplied with, measured on a text. A quantizer that knows them puts its errors where they cost least.
//
// Read and written in llama.cpp's GGUF form (tools/imatrix): tensors `<weight>.in_sum2` [cols, matrices] and
// `<weight>.counts` [1, matrices], general.type "imatrix". Its older form, usually named .dat, is read as
// well.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "io/file.h"

namespace cria {

class ImportanceMatrix {
 public:
  struct Entry {
    std::uint64_t cols = 0;
    /// 1, or the number of experts of a stacked matrix.
    std::uint64_t matrices = 1;
    /// [matrices, cols]: sums of squared activations.
    std::vector<float> sums;
    /// [matrices]: activations in the sums.
    std::vector<float> counts;

    /// [cols] of one matrix: mean squares, all 1 where the text never reached it.
    std::vector<float> means(std::uint64_t matrix) const;
  };

  /// Errors: ERR_FILE_NOT_FOUND, ERR_IO, ERR_INVALID_FILE (not an importance matrix, damaged, or with numbers
  /// that are negative or not finite), ERR_UNSUPPORTED_FILE.
  static ImportanceMatrix read(const std::string& path);
  static ImportanceMatrix read(std::shared_ptr<const File> file);
  /// Writes the GGUF form; the file appears whole or not at all. Throws ERR_IO.
  void write(const std::string& path) const;

  /// By the names of weights, e.g. "blk.0.attn_q.weight".
  std::map<std::string, Entry, std::less<>> entries;
  /// The texts, by name.
  std::vector<std::string> datasets;
  std::uint64_t chunk_count = 0;
  std::uint64_t chunk_size = 0;  // tokens; 0: not known
  /// As given to read(); for the metadata of what is quantized by it.
  std::string path;
};

}  // namespace cria
