// Real files, if the reference data is present.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>

#include "io/gguf.h"

using namespace cria;
namespace fs = std::filesystem;

TEST_CASE("every reference file opens and its tensors fill it" *
          doctest::skip(!fs::exists(CRIA_SHARED_DATA))) {
  std::size_t opened = 0;
  for (const auto& entry : fs::recursive_directory_iterator(CRIA_SHARED_DATA)) {
    if (entry.path().extension() != ".gguf") continue;
    CAPTURE(entry.path().string());
    const GgufFile file = GgufFile::open(entry.path());
    CHECK(file.total_file_bytes() == fs::file_size(entry.path()));
    std::uint64_t last_end = 0;
    for (const GgufTensor& tensor : file.tensors())
      last_end = std::max(last_end, tensor.offset + tensor.bytes);
    if (!file.tensors().empty()) CHECK(file.total_file_bytes() - last_end < 32);
    ++opened;
  }
  CHECK(opened >= 18);
}
