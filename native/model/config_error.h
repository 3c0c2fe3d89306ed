// Errors about a model's metadata and tensors. All have one form: the path, the key or tensor, what was
// expected and what was found.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"
#include "io/model_source.h"

namespace cria {

/// ERR_INVALID_MODEL: the metadata key contradicts the rest of the file, or itself.
[[noreturn]] void throw_invalid_key(const ModelSource& file, std::string_view key,
                                    const std::string& expected, const std::string& found);

/// ERR_UNSUPPORTED_MODEL: the metadata key asks for an unsupported variant. `why` is a clause, e.g. "groups
/// of experts are not supported".
[[noreturn]] void throw_unsupported_key(const ModelSource& file, std::string_view key, const std::string& why,
                                        const std::string& found);

/// The same for a tensor.
[[noreturn]] void throw_invalid_tensor(const ModelSource& file, std::string_view tensor,
                                       const std::string& expected, const std::string& found);
[[noreturn]] void throw_unsupported_tensor(const ModelSource& file, std::string_view tensor,
                                           const std::string& why);

}  // namespace cria
