// A prefix's KV cache in a file: its tokens, the pages that hold their keys and values, and what they fit to.
// The bytes are laid down in docs/state-files.md. The hash inside notices damage, not forgery: whoever may
// write the file may make the model "remember" anything, but never make the reader touch memory it should
// not.
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

/// What a state fits to. Two states are exchangeable when all of it is equal.
struct KvStateHeader {
  std::uint64_t model_fingerprint = 0;  // model/fingerprint.h
  std::string layout;  // how a page is laid out, e.g. "cpu/32"; 1 to 32 printable ASCII characters
  DType dtype = DType::f16;
  std::uint32_t n_layers = 0;
  std::uint32_t page_tokens = 0;  // tokens of a page
  std::uint64_t page_bytes = 0;   // one page of one layer

  bool operator==(const KvStateHeader&) const = default;
};

/// What a file says of itself.
struct KvStateInfo {
  KvStateHeader header;
  std::uint64_t n_tokens = 0;     // at least 1
  std::uint64_t pages_bytes = 0;  // all pages of all layers
};

struct KvState {
  std::vector<std::uint32_t> tokens;
  HugeMemory pages;  // ceil(n_tokens / page_tokens) times n_layers times page_bytes bytes
};

/// Writes a state, in place of whatever file is at the path (AtomicFile): whole or not at all, readable for
/// its owner alone. `pages` holds, for each page of tokens in order, the page of each layer in order; the
/// last one is written whole, so its unused part should be zeros and not what another request left there.
/// Errors: ERR_IO with the path and the system's reason (a full disk, a folder that may not be written),
/// ERR_INVALID_ARGUMENT for a path that names no file, ERR_ABORTED, ERR_INTERNAL for arguments that
/// contradict each other. After any of them the target is as it was.
void write_kv_state(const std::string& path, const KvStateHeader& header,
                    std::span<const std::uint32_t> tokens, std::span<const std::byte> pages,
                    const CancelFlag* cancel);

/// Reads a state that fits `expected`, has at most `max_tokens` tokens, and token ids below `vocab_size`.
/// Memory is taken only once the header, the file's size and all of these agree. Errors, each with what was
/// expected and what was found: ERR_FILE_NOT_FOUND; ERR_IO; ERR_INVALID_FILE (no state file, or truncated,
/// longer than it says, altered); ERR_UNSUPPORTED_FILE (another version or byte order, an unknown KV type);
/// ERR_STATE_MISMATCH (well-formed, and does not fit); ERR_OUT_OF_MEMORY; ERR_ABORTED.
KvState read_kv_state(const std::string& path, const KvStateHeader& expected, std::uint64_t vocab_size,
                      std::uint64_t max_tokens, const CancelFlag* cancel);
KvState read_kv_state(const File& file, const KvStateHeader& expected, std::uint64_t vocab_size,
                      std::uint64_t max_tokens, const CancelFlag* cancel);

/// The header alone, checked in itself and against the file's size; tokens and pages are not looked at.
/// Errors: as above, but for the last three.
KvStateInfo read_kv_state_header(const std::string& path);
KvStateInfo read_kv_state_header(const File& file);

}  // namespace cria
