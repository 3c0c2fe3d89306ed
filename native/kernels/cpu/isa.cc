#include "kernels/cpu/isa.h"

#include <cstdlib>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#include "core/error.h"

namespace cria {

namespace portable {
extern const CpuKernels kernels;
}
#if defined(__x86_64__)
namespace avx2 {
extern const CpuKernels kernels;
}
namespace avx_vnni {
extern const CpuKernels kernels;
}
namespace avx512_vnni {
extern const CpuKernels kernels;
}
namespace avx512_bf16 {
extern const CpuKernels kernels;
}
#endif
#if defined(__aarch64__)
namespace neon {
extern const CpuKernels kernels;
}
namespace neon_dotprod {
extern const CpuKernels kernels;
}
namespace neon_i8mm {
extern const CpuKernels kernels;
}
#endif

namespace {

#if defined(__x86_64__)
// gcc 12's __builtin_cpu_supports does not know every name: AVX-VNNI is leaf 7, subleaf 1, EAX bit 4.
[[maybe_unused]] bool has_avx_vnni() {
  unsigned eax = 7, ebx = 0, ecx = 1, edx = 0;
  asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  return (eax >> 4 & 1) != 0;
}
#endif

#if defined(__aarch64__) && defined(__linux__)
// Bits of arch/arm64/include/uapi/asm/hwcap.h, which the C library's headers may be too old to name.
[[maybe_unused]] bool has_dotprod() { return (getauxval(AT_HWCAP) >> 20 & 1) != 0; }
[[maybe_unused]] bool has_i8mm() { return (getauxval(AT_HWCAP2) >> 13 & 1) != 0; }
#elif defined(__aarch64__)
// Other systems would have to be asked in their own way (macOS: sysctl hw.optional.arm.FEAT_DotProd): until
// then what every 64-bit ARM processor has.
[[maybe_unused]] bool has_dotprod() { return false; }
[[maybe_unused]] bool has_i8mm() { return false; }
#endif

std::vector<const CpuKernels*> detect() {
  std::vector<const CpuKernels*> levels{&portable::kernels};
#if defined(__x86_64__)
  __builtin_cpu_init();
  [[maybe_unused]] const bool has_avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  [[maybe_unused]] const bool has_avx512_vnni =
      has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni");
  // A build may leave levels out (CRIA_CPU_LEVELS).
#if CRIA_HAVE_avx2
  if (has_avx2) levels.push_back(&avx2::kernels);
#endif
#if CRIA_HAVE_avx_vnni
  if (has_avx2 && has_avx_vnni()) levels.push_back(&avx_vnni::kernels);
#endif
#if CRIA_HAVE_avx512_vnni
  if (has_avx512_vnni) levels.push_back(&avx512_vnni::kernels);
#endif
#if CRIA_HAVE_avx512_bf16
  if (has_avx512_vnni && __builtin_cpu_supports("avx512bf16")) levels.push_back(&avx512_bf16::kernels);
#endif
#endif
#if CRIA_HAVE_neon
  levels.push_back(&neon::kernels);
#endif
#if CRIA_HAVE_neon_dotprod
  if (has_dotprod()) levels.push_back(&neon_dotprod::kernels);
#endif
#if CRIA_HAVE_neon_i8mm
  if (has_dotprod() && has_i8mm()) levels.push_back(&neon_i8mm::kernels);
#endif
  return levels;
}

}  // namespace

const std::vector<const CpuKernels*>& runnable_levels() {
  static const std::vector<const CpuKernels*>* levels =
      new std::vector<const CpuKernels*>(detect());  // never destroyed
  return *levels;
}

namespace {

const CpuKernels& find_level(const std::string& wanted, const std::string& asked_by) {
  std::string names;
  for (const CpuKernels* level : runnable_levels()) {
    if (level->isa == wanted) return *level;
    names += (names.empty() ? "" : ", ") + std::string(level->isa);
  }
  throw Error(ErrorCode::invalid_argument,
              asked_by + ": expected one of " + names + " on this machine, found '" + wanted + "'",
              {{"expected", names}, {"found", wanted}});
}

}  // namespace

const CpuKernels& choose_level() {
  const char* wanted = std::getenv("CRIA_CPU_ISA");
  return wanted && *wanted ? find_level(wanted, "CRIA_CPU_ISA") : *runnable_levels().back();
}

const CpuKernels& choose_level(const std::string& name) {
  return name.empty() ? choose_level() : find_level(name, "isa");
}

}  // namespace cria
