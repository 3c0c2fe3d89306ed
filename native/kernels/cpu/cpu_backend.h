// The CPU backend: host memory, kernels of one instruction set, a worker pool.
#pragma once

#include <memory>
#include <string>

#include "kernels/backend.h"

namespace cria {

std::unique_ptr<Backend> create_cpu_backend(const BackendOptions& options, std::string reason);

}  // namespace cria
