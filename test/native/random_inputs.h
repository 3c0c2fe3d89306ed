// Shared by the tests of kernels: fresh random inputs, comparison of bits, relative errors.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace cria::test {

/// A new seed each run, shown when a check fails; CRIA_TEST_SEED repeats a run.
inline std::uint64_t fresh_seed() {
  static const std::uint64_t seed = [] {
    if (const char* fixed = std::getenv("CRIA_TEST_SEED")) return std::strtoull(fixed, nullptr, 10);
    return static_cast<unsigned long long>(std::random_device{}());
  }();
  return seed;
}
#define CRIA_SEEDED_RNG(rng)                                             \
  INFO("CRIA_TEST_SEED=" << std::to_string(::cria::test::fresh_seed())); \
  std::mt19937_64 rng(::cria::test::fresh_seed())

inline std::vector<float> random_floats(std::mt19937_64& rng, std::size_t n, float scale = 1.0f) {
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> v(n);
  for (float& x : v) x = normal(rng);
  return v;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// ||a - b|| / ||b||.
template <class A, class B>
double relative_error(const A& a, const B& b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < b.size(); i++) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    difference += d * d;
    norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

}  // namespace cria::test
