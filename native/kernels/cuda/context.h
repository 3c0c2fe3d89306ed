// A device and the one stream in which everything of a backend runs.
#pragma once

#include "kernels/cuda/owned.h"

namespace cria::cuda {

class Context {
 public:
  explicit Context(int device) : device_(device) {
    bind();
    properties_ = device_properties(device);
    stream_.reset(create_stream());
  }
  /// Sets the device for the calling thread: engines, loads and disposals run on different ones.
  void bind() const { set_device(device_); }
  /// Waits for the stream on the calling thread, so that what it uses may be freed there. A lost device has
  /// nothing left to wait for.
  void settle() const noexcept {
    try {
      bind();
      synchronize(stream());
    } catch (...) {
    }
  }

  int device() const { return device_; }
  const DeviceProperties& properties() const { return properties_; }
  Stream stream() const { return stream_.get(); }

 private:
  const int device_;
  DeviceProperties properties_;
  OwnedStream stream_;
};

}  // namespace cria::cuda
