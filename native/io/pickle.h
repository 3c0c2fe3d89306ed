// Reader of the pickles in PyTorch checkpoints. A pickle is a program; this machine knows only the opcodes
// and globals that build dictionaries of tensors, and runs nothing. Sources: CPython, Lib/pickletools.py;
// PyTorch, torch/serialization.py and torch/_utils.py.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/stored_tensor.h"

namespace cria {

/// A tensor as a pickle describes it, unchecked.
struct PickledTensor {
  std::string name;
  StoredType type = StoredType::f32;
  std::string storage;                 // the name of its data's entry in the archive
  std::uint64_t storage_elements = 0;  // of which the tensor may be a part
  std::uint64_t first = 0;             // its first element there
  std::vector<std::uint64_t> shape;    // outermost first
  std::vector<std::uint64_t> strides;  // elements
};

/// The entries of the dictionary that `pickle` builds, in order. `name` is for messages. Errors:
/// ERR_INVALID_FILE (damaged, or not a dictionary of tensors); ERR_UNSUPPORTED_FILE naming an opcode or a
/// global beyond those that build tensors.
std::vector<PickledTensor> read_pickled_tensors(std::string_view pickle, const std::string& name);

}  // namespace cria
