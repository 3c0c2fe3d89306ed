// Fibers: stacks that can be left and resumed. A thread of a block runs on one.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#define CRIA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CRIA_ASAN 1
#endif
#endif

namespace cria::cuda::emulation {

class Fiber {
 public:
  /// The calling OS thread's own stack.
  Fiber();
  /// A new stack, on which `entry` runs at the first switch. `entry` must never return.
  Fiber(void (*entry)(), std::size_t index);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Leaves this fiber, which must be the running one, for `to`.
  void switch_to(Fiber& to);
  /// Discards the fiber's state: the next switch runs `entry` again.
  void reset();
  bool contains(const void* p) const { return p >= stack_ && p < static_cast<const char*>(stack_) + size_; }

 private:
  static void begin();

  void (*entry_)() = nullptr;
  void* mapping_ = nullptr;
  std::size_t mapped_ = 0;
  void* stack_ = nullptr;
  std::size_t size_ = 0, colour_ = 0;
#if defined(__x86_64__)
  void* pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
#ifdef CRIA_ASAN
  void* fake_stack_ = nullptr;
#endif
};

}  // namespace cria::cuda::emulation
