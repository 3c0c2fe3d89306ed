// Shared by the tests of CUDA kernels. They use runtime.h alone, so the same sources run on the emulator and
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
#include "random_inputs.h"

namespace cria::test {

/// An array on the device. The emulator fills a new one with NaN.
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
  /// Waits for the default stream.
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
