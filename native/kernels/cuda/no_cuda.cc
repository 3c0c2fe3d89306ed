// A build without CUDA.
#include "core/error.h"
#include "kernels/cuda/cuda_backend.h"

namespace cria {

bool is_cuda_device(std::string_view) { return false; }

std::unique_ptr<Backend> create_cuda_backend(const BackendOptions&) {
  throw Error(ErrorCode::internal, "this build has no CUDA backend");
}

std::unique_ptr<Backend> create_cuda_backend_if_usable(const BackendOptions&, std::string& why_not) {
  why_not = "this build has the CPU backend alone";
  return nullptr;
}

}  // namespace cria
