#include "core/hash.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace cria {
namespace {

static_assert(std::endian::native == std::endian::little, "XXH64 reads its lanes as little endian");

// The specification's PRIME64_1 to PRIME64_5.
constexpr std::uint64_t kPrime1 = 0x9E3779B185EBCA87;
constexpr std::uint64_t kPrime2 = 0xC2B2AE3D27D4EB4F;
constexpr std::uint64_t kPrime3 = 0x165667B19E3779F9;
constexpr std::uint64_t kPrime4 = 0x85EBCA77C2B2AE63;
constexpr std::uint64_t kPrime5 = 0x27D4EB2F165667C5;

template <typename T>
std::uint64_t load(const unsigned char* bytes) noexcept {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

std::uint64_t round(std::uint64_t lane, std::uint64_t input) noexcept {
  return std::rotl(lane + input * kPrime2, 31) * kPrime1;
}

std::uint64_t merge(std::uint64_t hash, std::uint64_t lane) noexcept {
  return (hash ^ round(0, lane)) * kPrime1 + kPrime4;
}

}  // namespace

Xxh64::Xxh64(std::uint64_t seed) noexcept
    : lanes_{seed + kPrime1 + kPrime2, seed + kPrime2, seed, seed - kPrime1}, seed_(seed) {}

void Xxh64::update(const void* data, std::size_t bytes) noexcept {
  if (bytes == 0) return;
  const auto* in = static_cast<const unsigned char*>(data);
  // Local copies stay in registers; the members cannot, since the bytes may alias them.
  std::uint64_t a = lanes_[0], b = lanes_[1], c = lanes_[2], d = lanes_[3];
  const auto consume = [&](const unsigned char* stripe) noexcept {
    a = round(a, load<std::uint64_t>(stripe));
    b = round(b, load<std::uint64_t>(stripe + 8));
    c = round(c, load<std::uint64_t>(stripe + 16));
    d = round(d, load<std::uint64_t>(stripe + 24));
  };

  const std::size_t used = length_ % kStripe;
  length_ += bytes;
  if (used > 0) {
    const std::size_t step = std::min(bytes, kStripe - used);
    std::memcpy(pending_ + used, in, step);
    in += step;
    bytes -= step;
    if (used + step < kStripe) return;
    consume(pending_);
  }
  for (; bytes >= kStripe; in += kStripe, bytes -= kStripe) consume(in);
  if (bytes > 0) std::memcpy(pending_, in, bytes);
  lanes_[0] = a, lanes_[1] = b, lanes_[2] = c, lanes_[3] = d;
}

std::uint64_t Xxh64::digest() const noexcept {
  std::uint64_t hash = seed_ + kPrime5;
  if (length_ >= kStripe) {
    hash = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) +
           std::rotl(lanes_[3], 18);
    for (const std::uint64_t lane : lanes_) hash = merge(hash, lane);
  }
  hash += length_;

  const unsigned char* in = pending_;
  std::size_t bytes = length_ % kStripe;
  for (; bytes >= 8; in += 8, bytes -= 8)
    hash = std::rotl(hash ^ round(0, load<std::uint64_t>(in)), 27) * kPrime1 + kPrime4;
  if (bytes >= 4) {
    hash = std::rotl(hash ^ (load<std::uint32_t>(in) * kPrime1), 23) * kPrime2 + kPrime3;
    in += 4, bytes -= 4;
  }
  for (; bytes > 0; ++in, --bytes) hash = std::rotl(hash ^ (*in * kPrime5), 11) * kPrime1;

  hash = (hash ^ hash >> 33) * kPrime2;
  hash = (hash ^ hash >> 29) * kPrime3;
  return hash ^ hash >> 32;
}

}  // namespace cria
