// Real files, if the reference data is present.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "shared_data.h"

using namespace cria;
namespace fs = std::filesystem;

TEST_CASE("every reference file opens and its tensors fill it, or is refused for its weight types" *
          doctest::skip(!fs::exists(CRIA_SHARED_DATA))) {
  std::size_t opened = 0;
  for (const auto& entry : fs::recursive_directory_iterator(CRIA_SHARED_DATA)) {
    if (entry.path().extension() != ".gguf") continue;
    CAPTURE(entry.path().string());
    const std::optional<GgufFile> file = test::open_known_types(entry.path());
    if (!file) continue;
    CHECK(file->total_file_bytes() == fs::file_size(entry.path()));
    std::uint64_t last_end = 0;
    for (const GgufTensor& tensor : file->tensors())
      last_end = std::max(last_end, tensor.offset + tensor.bytes);
    if (!file->tensors().empty()) CHECK(file->total_file_bytes() - last_end < 32);
    ++opened;
  }
  CHECK(opened >= 18);
}
