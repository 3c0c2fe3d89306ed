// Writes KV state files in memory, for the native tests and the fuzzer. It implements docs/state-files.md
// independently of the code under test, and checks nothing, since tests also write invalid files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/hash.h"
#include "gguf_builder.h"
#include "io/kv_state_file.h"

namespace cria::test {

inline constexpr std::size_t kStateHeaderBytes = 104;

struct KvStateBuilder {
  std::string magic = "cria-kv\n";
  std::uint32_t byte_order = 0x0a0b0c0d, version = 1;
  std::uint64_t model_fingerprint = 0x0123456789abcdef;
  std::string layout = "cpu/4";
  std::uint32_t dtype = 1, n_layers = 2, page_tokens = 4, reserved = 0;
  std::uint64_t page_bytes = 16, n_tokens = 6;
  std::vector<std::uint32_t> tokens = {1, 2, 3, 4, 5, 99};
  std::vector<std::uint8_t> pages = counting(64);

  static std::vector<std::uint8_t> counting(std::size_t bytes) {
    std::vector<std::uint8_t> data(bytes);
    for (std::size_t i = 0; i < bytes; ++i) data[i] = static_cast<std::uint8_t>(i * 7 + 1);
    return data;
  }

  KvStateHeader header() const {
    return {model_fingerprint, layout, static_cast<DType>(dtype), n_layers, page_tokens, page_bytes};
  }

  std::vector<std::uint8_t> build() const {
    Bytes out;
    out.data.assign(magic.begin(), magic.end());
    out.put(byte_order).put(version).put(model_fingerprint);
    for (std::size_t i = 0; i < 32; ++i) out.put(i < layout.size() ? layout[i] : '\0');
    out.put(dtype).put(n_layers).put(page_tokens).put(reserved).put(page_bytes).put(n_tokens);
    out.put(std::uint64_t{0}).put(std::uint64_t{0});
    for (const std::uint32_t token : tokens) out.put(token);
    out.data.insert(out.data.end(), pages.begin(), pages.end());
    fix_hashes(&out.data);
    return out.data;
  }

  /// Recomputes both hashes if the header is complete.
  static void fix_hashes(std::vector<std::uint8_t>* bytes) {
    if (bytes->size() < kStateHeaderBytes) return;
    const std::uint64_t payload = xxh64(bytes->data() + kStateHeaderBytes, bytes->size() - kStateHeaderBytes);
    std::memcpy(bytes->data() + 88, &payload, sizeof(payload));
    const std::uint64_t header = xxh64(bytes->data(), 96);
    std::memcpy(bytes->data() + 96, &header, sizeof(header));
  }
};

}  // namespace cria::test
