// Which type each tensor of a file gets. A file type is a mix: matrices that matter more get more bits. The
// rules are llama.cpp's (src/llama-quant.cpp), so that a file has the types that its name promises.
#pragma once

#include <vector>

#include "convert/file_type.h"
#include "io/model_source.h"

namespace cria {

/// Whether a mix may change a tensor: a matrix or a stack of them whose name ends in "weight", other than
/// norms and the experts' router.
bool is_quantizable(const GgufTensor& tensor);

/// The type of every tensor of `model`, in its order. What is_quantizable() denies keeps its type, but
/// vectors and routers of 16 bits become F32. Rows that a type's blocks do not divide get the type that
/// stands in for it. Errors: ERR_INVALID_ARGUMENT where no type stands in (Q1_0); ERR_INVALID_MODEL for
/// metadata that lacks the numbers of layers or heads.
std::vector<DType> mix_types(const ModelSource& model, FileType type, bool has_importance);

/// Whether llama.cpp, and so cria, refuses to write this tensor without an importance matrix: the result
/// would be useless.
bool needs_importance(const GgufTensor& tensor, DType dtype, FileType type);

}  // namespace cria
