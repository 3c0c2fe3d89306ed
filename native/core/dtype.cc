#include "core/dtype.h"

namespace cria {

const DTypeTraits* find_dtype(std::uint32_t ggml_type_id) noexcept {
  for (const DTypeTraits& t : kDTypes)
    if (static_cast<std::uint32_t>(t.dtype) == ggml_type_id) return &t;
  return nullptr;
}

}  // namespace cria
