#include "kernels/cuda/pass_graphs.h"

namespace cria::cuda {

PassGraphs::Next PassGraphs::next(const PassShape& shape) {
  Entry& entry = entries_[key_of(shape)];
  if (entry.exec) return Next::replay;
  return std::exchange(entry.seen, true) ? Next::capture : Next::run;
}

void PassGraphs::captured(const PassShape& shape, Stream stream) {
  const OwnedGraph graph(end_capture(stream));
  entries_[key_of(shape)].exec.reset(instantiate(graph.get()));
}

void PassGraphs::abandon(Stream stream) noexcept {
  try {
    destroy(end_capture(stream));
  } catch (...) {
  }
}

void PassGraphs::launch(const PassShape& shape, Stream stream) {
  cuda::launch(entries_[key_of(shape)].exec.get(), stream);
}

}  // namespace cria::cuda
