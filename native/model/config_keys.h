// Every metadata key "llama.*" that llama.cpp reads for this architecture or that gguf-py defines
// (gguf-py/gguf/constants.py), and what it means here. docs/model-files.md shows the same table.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/model_source.h"

namespace cria {

enum class KeyRole {
  honoured,
  refused,   // ERR_UNSUPPORTED_MODEL where the value asks for anything
  ignored,   // with a warning where the value asks for anything: llama.cpp ignores it for this architecture
  harmless,  // changes nothing that is computed
};
std::string_view name_of(KeyRole role) noexcept;

struct KnownKey {
  std::string_view name;  // without the architecture, e.g. "rope.freq_base"
  KeyRole role;
  std::string_view note;  // for the documentation
  // ignored: like 0, false, an empty text and an array of such, this value asks for nothing.
  double neutral = 0;
};

/// In the order of the documentation.
std::span<const KnownKey> known_keys() noexcept;

/// A line for each "llama.*" key of the file that is ignored though it asks for something, and for each that
/// is not known. Never throws for what the file holds; empty for other architectures.
std::vector<std::string> key_warnings(const ModelSource& file);

}  // namespace cria
