// Recorded passes: a decode step is one CUDA graph. One graph for each shape of a pass.
//
// The first pass of a shape runs kernel by kernel, which also loads the kernels (that must not happen during
// a capture). The second is captured, later ones are replayed.
#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "kernels/cuda/owned.h"
#include "kernels/cuda/pass_batch.h"

namespace cria::cuda {

class PassGraphs {
 public:
  enum class Next { run, capture, replay };
  /// What to do with a pass of this shape, which begins now.
  Next next(const PassShape& shape);
  /// Ends the capture that begin_capture() began on the stream; the graph is kept for the shape.
  void captured(const PassShape& shape, Stream stream);
  /// Ends a capture without keeping its graph.
  static void abandon(Stream stream) noexcept;
  void launch(const PassShape& shape, Stream stream);

 private:
  struct Entry {
    bool seen = false;
    OwnedGraphExec exec;
  };
  using Key = std::pair<std::int32_t, std::int32_t>;  // tokens, stride of the block table
  static Key key_of(const PassShape& s) { return {s.n_tokens, s.table_stride}; }
  std::map<Key, Entry> entries_;
};

}  // namespace cria::cuda
