// libFuzzer target: any bytes read as an importance matrix give a cria::Error or a checked matrix. A crash, a
// leak, a sanitizer report, or an input that takes much time or memory is a failure.
//
//   cmake -S . -B build-fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++-19 -DCRIA_ADDON=OFF -DCRIA_FUZZ=ON \
//         -DCRIA_SANITIZE=address,undefined
//   ninja -C build-fuzz fuzz_imatrix
//   build-fuzz/test/native/fuzz_imatrix -write_seeds=build-fuzz/imatrix-corpus
//   build-fuzz/test/native/fuzz_imatrix -max_total_time=60 -timeout=2 -rss_limit_mb=512 -malloc_limit_mb=64 \
//         -max_len=4096 build-fuzz/imatrix-corpus
//
// `-write_seeds=<folder>` is an option of this program; all others are libFuzzer's.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "../native/io/gguf_builder.h"
#include "convert/importance_matrix.h"
#include "core/error.h"

namespace {

using namespace cria;
using namespace cria::test;

void write_seed(const std::filesystem::path& path, const std::vector<std::uint8_t>& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

void write_seeds(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  GgufBuilder gguf;
  gguf.set("general.type", "imatrix");
  gguf.set_strings("imatrix.datasets", {"text"});
  gguf.set("imatrix.chunk_count", std::uint32_t{2});
  gguf.tensor({.name = "a.weight.in_sum2", .dims = {4, 2}});
  gguf.tensor({.name = "a.weight.counts", .dims = {1, 2}});
  write_seed(folder / "gguf", gguf.build());
  Bytes legacy;
  legacy.put(std::int32_t{1})
      .put(std::int32_t{1})
      .put('a')
      .put(std::int32_t{2})
      .put(std::int32_t{1})
      .put(1.5f);
  legacy.put(std::int32_t{3}).put(std::int32_t{1}).put('t');
  write_seed(folder / "legacy", legacy.data);
}

void require(bool condition) {
  if (!condition) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr const char* kOption = "-write_seeds=";
  for (int i = 1; i < *argc; ++i) {
    if (std::strncmp((*argv)[i], kOption, std::strlen(kOption)) != 0) continue;
    write_seeds((*argv)[i] + std::strlen(kOption));
    std::exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const ImportanceMatrix matrix =
        ImportanceMatrix::read(File::from_memory("imatrix", std::vector<std::uint8_t>(data, data + size)));
    for (const auto& [name, entry] : matrix.entries) {
      require(entry.sums.size() == entry.cols * entry.matrices);
      for (std::uint64_t m = 0; m < entry.matrices; m++)
        for (const float mean : entry.means(m)) require(!std::isnan(mean) && mean >= 0);
    }
  } catch (const cria::Error&) {
  }
  return 0;
}
