// libFuzzer target: any bytes read as a KV state give a cria::Error or a checked state. A crash, a leak, a
// sanitizer report, or an input that takes much time or memory is a failure. The hashes would reject nearly
// every input, so each is tried twice: unchanged, and with both hashes recomputed.
//
//   cmake -S . -B build-fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++-19 -DCRIA_ADDON=OFF -DCRIA_FUZZ=ON \
//         -DCRIA_SANITIZE=address,undefined
//   ninja -C build-fuzz fuzz_kv_state
//   build-fuzz/test/native/fuzz_kv_state -write_seeds=build-fuzz/kv-corpus      # a few small valid files
//   build-fuzz/test/native/fuzz_kv_state -max_total_time=60 -timeout=2 -rss_limit_mb=512 \
//         -malloc_limit_mb=16 -max_len=4096 build-fuzz/kv-corpus
//
// `-write_seeds=<folder>` is an option of this program; all others are libFuzzer's.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "../native/io/kv_state_builder.h"
#include "core/error.h"
#include "io/kv_state_file.h"

namespace {

using namespace cria;
using namespace cria::test;

constexpr std::uint64_t kVocab = 100, kMaxTokens = 200;

void write_seed(const std::filesystem::path& path, const KvStateBuilder& builder) {
  const std::vector<std::uint8_t> bytes = builder.build();
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

void write_seeds(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  KvStateBuilder builder;
  write_seed(folder / "fits", builder);
  builder.version = 2;
  write_seed(folder / "version-2", builder);
  builder = {};
  builder.layout = "cuda/64", builder.dtype = 0, builder.n_layers = 1, builder.page_tokens = 64;
  builder.page_bytes = 100, builder.pages = KvStateBuilder::counting(100);
  write_seed(folder / "another-layout", builder);
  builder = {};
  builder.n_layers = 1, builder.page_tokens = 1, builder.page_bytes = 1;
  builder.n_tokens = 300, builder.tokens.resize(300), builder.pages = KvStateBuilder::counting(300);
  write_seed(folder / "many-tokens", builder);
}

void require(bool condition) {
  if (!condition) __builtin_trap();
}

/// Reads with the header of a fixed model and with the file's own header.
void try_bytes(const std::vector<std::uint8_t>& bytes) {
  const auto file = File::from_memory("state", bytes);
  try {
    const KvStateInfo info = read_kv_state_header(*file);
    require(info.n_tokens > 0 && info.n_tokens <= bytes.size() / sizeof(std::uint32_t));
    require(kStateHeaderBytes + info.n_tokens * sizeof(std::uint32_t) + info.pages_bytes == bytes.size());
    for (const KvStateHeader& expected : {KvStateBuilder().header(), info.header}) {
      try {
        const KvState state = read_kv_state(*file, expected, kVocab, kMaxTokens, nullptr);
        require(expected == info.header);
        require(state.tokens.size() == info.n_tokens && info.n_tokens <= kMaxTokens);
        require(state.pages.size() == info.pages_bytes);
        for (const std::uint32_t token : state.tokens) require(token < kVocab);
        const std::uint8_t* pages = bytes.data() + bytes.size() - state.pages.size();
        require(std::memcmp(state.pages.data(), pages, state.pages.size()) == 0);
      } catch (const Error& error) {
        // The header was accepted, so only what follows it can be damaged.
        require(error.code() == ErrorCode::state_mismatch || error.code() == ErrorCode::invalid_file);
      }
    }
  } catch (const Error& error) {
    // Expected; any other exception ends the program and is a finding.
    require(error.code() == ErrorCode::invalid_file || error.code() == ErrorCode::unsupported_file);
  }
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
  std::vector<std::uint8_t> bytes(data, data + size);
  try_bytes(bytes);
  KvStateBuilder::fix_hashes(&bytes);
  try_bytes(bytes);
  return 0;
}
