// Shared by the tests of CUDA kernels. They know runtime.h alone, so the same sources run on the emulator and
// on a device.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/runtime.h"

namespace cria::test {

/// A new seed each run, shown when a check fails; CRIA_TEST_SEED repeats a run.
inline std::uint64_t fresh_seed() {
  static const std::uint64_t seed = [] {
    if (!std::getenv("CRIA_TEST_SEED"))  // the emulator takes it too
      setenv("CRIA_TEST_SEED", std::to_string(std::random_device{}()).c_str(), 1);
    return std::strtoull(std::getenv("CRIA_TEST_SEED"), nullptr, 10);
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

/// An array on the device; the emulator fills a fresh one with NaN.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t n)
      : n_(n), data_(static_cast<T*>(cuda::allocate(n * sizeof(T), "a test"))) {}
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) { set(values); }
  ~DeviceArray() { cuda::release(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  std::size_t size() const { return n_; }
  void set(const std::vector<T>& values) {
    cuda::copy_to_device(data_, values.data(), values.size() * sizeof(T), nullptr);
    cuda::synchronize(cuda::Stream{});
  }
  /// Waits for what was given to the default stream.
  std::vector<T> get() const {
    std::vector<T> values(n_);
    cuda::copy_to_host(values.data(), data_, n_ * sizeof(T), nullptr);
    cuda::synchronize(cuda::Stream{});
    return values;
  }

 private:
  std::size_t n_;
  T* data_;
};

}  // namespace cria::test
