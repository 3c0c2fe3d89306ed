#include "cuda_emulation/fiber.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdint>
#include <new>

#ifdef CRIA_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace cria::cuda::emulation {
namespace {

#ifdef CRIA_ASAN
constexpr std::size_t kStackBytes = std::size_t{256} << 10;  // frames are larger
#else
constexpr std::size_t kStackBytes = std::size_t{64} << 10;
#endif
constexpr std::size_t kPage = 4096;

#ifdef CRIA_ASAN
thread_local std::size_t bytes_of_thread_stack = 0;
#endif
Fiber* starting = nullptr;  // passes a new fiber to its own first function

}  // namespace

#if defined(__x86_64__)
// Saves the callee-saved registers, swaps the stack pointers, and returns on the other stack. The
// floating-point control words are not saved: no code here changes them.
extern "C" void cria_switch_stack(void** save, void* load);
asm(R"(
  .text
  .globl cria_switch_stack
  .hidden cria_switch_stack
  .type cria_switch_stack, @function
cria_switch_stack:
  pushq %rbx
  pushq %rbp
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbp
  popq %rbx
  ret
  .size cria_switch_stack, .-cria_switch_stack
)");
#endif

Fiber::Fiber() {
#ifdef CRIA_ASAN  // needs the stack's bounds; finding them reads /proc, so not at every launch
  thread_local void* const stack_of_thread = [] {
    pthread_attr_t attributes;
    void* stack = nullptr;
    std::size_t size = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
      pthread_attr_getstack(&attributes, &stack, &size);
      pthread_attr_destroy(&attributes);
    }
    bytes_of_thread_stack = size;
    return stack;
  }();
  stack_ = stack_of_thread;
  size_ = bytes_of_thread_stack;
#endif
}

Fiber::Fiber(void (*entry)(), std::size_t index) : entry_(entry) {
  mapped_ = kStackBytes + kPage;  // the lowest page stays inaccessible, so that an overflow faults
  mapping_ =
      mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping_ == MAP_FAILED) throw std::bad_alloc();
  mprotect(mapping_, kPage, PROT_NONE);
  stack_ = static_cast<char*>(mapping_) + kPage;
  size_ = kStackBytes;
  // Stacks begin at different cache sets; aligned alike, hundreds would compete for a few.
  colour_ = index * 320 % kPage / 64 * 64;
  reset();
}

Fiber::~Fiber() {
  if (mapping_) munmap(mapping_, mapped_);
}

void Fiber::reset() {
#ifdef CRIA_ASAN
  __asan_unpoison_memory_region(stack_, size_);
  fake_stack_ = nullptr;
#endif
#if defined(__x86_64__)
  auto** top = reinterpret_cast<void**>(static_cast<char*>(stack_) + size_ - colour_ - 64);
  *--top = nullptr;  // where a return address would be, so that the stack is aligned as after a call
  *--top = reinterpret_cast<void*>(&Fiber::begin);
  for (int i = 0; i < 6; i++) *--top = nullptr;
  pointer_ = top;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_;
  context_.uc_stack.ss_size = size_ - colour_;
  context_.uc_link = nullptr;
  makecontext(&context_, &Fiber::begin, 0);
#endif
}

void Fiber::begin() {
#ifdef CRIA_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  starting->entry_();
  __builtin_trap();
}

void Fiber::switch_to(Fiber& to) {
  starting = &to;
#ifdef CRIA_ASAN
  __sanitizer_start_switch_fiber(&fake_stack_, to.stack_, to.size_);
#endif
#if defined(__x86_64__)
  cria_switch_stack(&pointer_, to.pointer_);
#else
  swapcontext(&context_, &to.context_);
#endif
#ifdef CRIA_ASAN
  __sanitizer_finish_switch_fiber(fake_stack_, nullptr, nullptr);
#endif
}

}  // namespace cria::cuda::emulation
