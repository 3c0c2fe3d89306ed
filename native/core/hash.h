// A fast 64-bit hash, for integrity and identification: it notices damage, not an adversary, who can make
// collisions at will. Never a replacement for a cryptographic digest.
//
// XXH64, as described in "xxHash fast digest algorithm", version 0.1.1, section "XXH64 Algorithm Description"
// (github.com/Cyan4973/xxHash, doc/xxhash_spec.md).
#pragma once

#include <cstddef>
#include <cstdint>

namespace cria {

/// The hash of a message that comes in pieces; how it is cut makes no difference. 32 bytes a step, of which
/// four lanes run in parallel: more than 10 GB/s on a current core, so memory and disks are slower.
class Xxh64 {
 public:
  explicit Xxh64(std::uint64_t seed = 0) noexcept;

  /// Appends `bytes` bytes. `data` needs no alignment, and may be null when `bytes` is 0.
  void update(const void* data, std::size_t bytes) noexcept;

  /// The hash of everything so far; more may follow.
  std::uint64_t digest() const noexcept;

 private:
  static constexpr std::size_t kStripe = 32;  // bytes: four lanes of eight

  std::uint64_t lanes_[4];
  std::uint64_t seed_;
  std::uint64_t length_ = 0;        // bytes so far, modulo 2^64
  unsigned char pending_[kStripe];  // the first length_ % kStripe bytes: what fills no stripe yet
};

/// The hash of one piece.
inline std::uint64_t xxh64(const void* data, std::size_t bytes, std::uint64_t seed = 0) noexcept {
  Xxh64 hash(seed);
  hash.update(data, bytes);
  return hash.digest();
}

}  // namespace cria
