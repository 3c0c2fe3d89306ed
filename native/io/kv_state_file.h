// The KV cache of a prefix in a file: its tokens, the pages with their keys and values, and the model and
// page layout they belong to. docs/state-files.md specifies the bytes. The hash in the file detects damage,
// not forgery: a forged file can make the model "remember" anything, but cannot make the reader access memory
// out of bounds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/dtype.h"
#include "core/huge_memory.h"
#include "io/file.h"

namespace cria {

inline constexpr std::uint32_t kKvStateVersion = 1;
inline constexpr std::size_t kMaxKvLayoutBytes = 32;

/// The model and page layout that a state belongs to. States with equal headers are interchangeable.
struct KvStateHeader {
  /// model_fingerprint() of the model.
  std::uint64_t model_fingerprint = 0;
  /// The layout within a page, e.g. "cpu/32": 1 to 32 printable ASCII characters.
  std::string layout;
  DType dtype = DType::f16;
  std::uint32_t n_layers = 0;
  std::uint32_t page_tokens = 0;
  /// Of one page of one layer.
  std::uint64_t page_bytes = 0;

  bool operator==(const KvStateHeader&) const = default;
};

/// The contents of a file's header.
struct KvStateInfo {
  KvStateHeader header;
  std::uint64_t n_tokens = 0;     // at least 1
  std::uint64_t pages_bytes = 0;  // all pages of all layers
};

struct KvState {
  std::vector<std::uint32_t> tokens;
  HugeMemory pages;  // [ceil(n_tokens / page_tokens), n_layers, page_bytes]
};

/// Writes a state atomically (AtomicFile), replacing a file at the path; only its owner may read it. `pages`
/// is [pages of tokens, n_layers, page_bytes]. The last page is written whole, so its unused part should be
/// zero rather than what another request left there. Errors: ERR_IO with the path and the system's reason (a
/// full disk, a folder without write permission), ERR_INVALID_ARGUMENT for a path that names no file,
/// ERR_ABORTED, ERR_INTERNAL for arguments that contradict each other. Each leaves the target unchanged.
void write_kv_state(const std::string& path, const KvStateHeader& header,
                    std::span<const std::uint32_t> tokens, std::span<const std::byte> pages,
                    const CancelFlag* cancel);

/// Reads a state whose header equals `expected`, with at most `max_tokens` tokens and token ids below
/// `vocab_size`. Allocates only after the header, the file's size and these limits were checked. Errors, each
/// with what was expected and found: ERR_FILE_NOT_FOUND; ERR_IO; ERR_INVALID_FILE (not a state file,
/// truncated, too long or altered); ERR_UNSUPPORTED_FILE (another version or byte order, an unknown KV type);
/// ERR_STATE_MISMATCH (well-formed, but of another model, layout or size); ERR_OUT_OF_MEMORY; ERR_ABORTED.
KvState read_kv_state(const std::string& path, const KvStateHeader& expected, std::uint64_t vocab_size,
                      std::uint64_t max_tokens, const CancelFlag* cancel);
KvState read_kv_state(const File& file, const KvStateHeader& expected, std::uint64_t vocab_size,
                      std::uint64_t max_tokens, const CancelFlag* cancel);

/// Reads only the header, and checks it for consistency and against the file's size. Errors: those above
/// except the last three.
KvStateInfo read_kv_state_header(const std::string& path);
KvStateInfo read_kv_state_header(const File& file);

}  // namespace cria
