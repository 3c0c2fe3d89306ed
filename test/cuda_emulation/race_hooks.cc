// The functions that code compiled with -fsanitize=thread calls at each access to memory. Linked only into
// programs whose kernels are compiled so, and never with libtsan, which defines the same names.
#include <cstddef>
#include <cstring>

#include "cuda_emulation/grid.h"

namespace {

using namespace cria::cuda::emulation;

[[maybe_unused]] const bool enabled = [] { return race::enabled = true; }();

void note(const void* p, std::size_t bytes, bool writes, const void* from) {
  if (!current) return;
  race::program_counter = from;
  race::access(*current, p, bytes, writes);
  race::program_counter = nullptr;
}

}  // namespace

extern "C" {

#define CRIA_HOOKS(n)                                                                        \
  void __tsan_read##n(void* p) { note(p, n, false, __builtin_return_address(0)); }           \
  void __tsan_write##n(void* p) { note(p, n, true, __builtin_return_address(0)); }           \
  void __tsan_unaligned_read##n(void* p) { note(p, n, false, __builtin_return_address(0)); } \
  void __tsan_unaligned_write##n(void* p) { note(p, n, true, __builtin_return_address(0)); } \
  void __tsan_volatile_read##n(void* p) { note(p, n, false, __builtin_return_address(0)); }  \
  void __tsan_volatile_write##n(void* p) { note(p, n, true, __builtin_return_address(0)); }  \
  void __tsan_read_write##n(void* p) { note(p, n, true, __builtin_return_address(0)); }      \
  void __tsan_unaligned_read_write##n(void* p) { note(p, n, true, __builtin_return_address(0)); }
CRIA_HOOKS(1)
CRIA_HOOKS(2)
CRIA_HOOKS(4)
CRIA_HOOKS(8)
CRIA_HOOKS(16)
#undef CRIA_HOOKS

void __tsan_read_range(void* p, std::size_t n) { note(p, n, false, __builtin_return_address(0)); }
void __tsan_write_range(void* p, std::size_t n) { note(p, n, true, __builtin_return_address(0)); }
void* __tsan_memcpy(void* to, const void* from, std::size_t n) {
  note(from, n, false, __builtin_return_address(0));
  note(to, n, true, __builtin_return_address(0));
  return std::memcpy(to, from, n);
}
void* __tsan_memmove(void* to, const void* from, std::size_t n) {
  note(from, n, false, __builtin_return_address(0));
  note(to, n, true, __builtin_return_address(0));
  return std::memmove(to, from, n);
}
void* __tsan_memset(void* to, int value, std::size_t n) {
  note(to, n, true, __builtin_return_address(0));
  return std::memset(to, value, n);
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void**) {}
void __tsan_vptr_update(void**, void*) {}

}  // extern "C"
