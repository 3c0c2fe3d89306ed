#include "kernels/cpu/machine.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string_view>

#include "core/thread_pool.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/memory_streams.h"

namespace cria {
namespace {

constexpr double kSeconds = 0.3;  // for each figure

// Seconds of the fastest of many runs. Whatever else this machine does can only slow one down; they are
// short, a millisecond or so, so that some are left alone on a busy machine too.
template <class Run>
double best_seconds(const CancelFlag& cancel, Run run) {
  double best = kSeconds;
  for (double spent = 0; spent < kSeconds;) {
    cancel.check();
    const auto begin = std::chrono::steady_clock::now();
    run();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = spent == 0 ? seconds : std::min(best, seconds);
    spent += seconds;
  }
  return best;
}

double read_gbs(ThreadPool& pool, const CancelFlag& cancel) {
  MemoryStreams streams(pool);
  double best = 0;
  best_seconds(cancel, [&] { best = std::max(best, streams.gbs(1, 0)); });
  return best;
}

using PeakLoop = void (*)(std::int64_t rounds);

#if CRIA_HAVE_avx2
// Twelve instructions in a row, none waiting for another. Assembly, since this file is compiled for no level.
#define CRIA_TWELVE(op) \
  op("0") op("1") op("2") op("3") op("4") op("5") op("6") op("7") op("8") op("9") op("10") op("11")
#define CRIA_PEAK_LOOP(name, vector, op)                                                                 \
  void name(std::int64_t rounds) {                                                                       \
    const float one = 1;                                                                                 \
    asm volatile("vbroadcastss %1, %%" vector "14\n vbroadcastss %1, %%" vector                          \
                 "15\n"                                                                                  \
                 "1:\n" CRIA_TWELVE(op) "dec %0\n jnz 1b\n vzeroupper"                                   \
                 : "+r"(rounds)                                                                          \
                 : "m"(one)                                                                              \
                 : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", \
                   "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");                                \
  }
#define CRIA_DOT_512(r) "vpdpbusd %%zmm14, %%zmm15, %%zmm" r "\n"
#define CRIA_DOT_256(r) "%{vex%} vpdpbusd %%ymm14, %%ymm15, %%ymm" r "\n"
#define CRIA_DOT_AVX2(r)                                                                                \
  "vpmaddubsw %%ymm14, %%ymm15, %%ymm12\n vpmaddwd %%ymm14, %%ymm12, %%ymm13\n vpaddd %%ymm13, %%ymm" r \
  ", %%ymm" r "\n"
#define CRIA_FMA_512(r) "vfmadd231ps %%zmm14, %%zmm15, %%zmm" r "\n"
#define CRIA_FMA_256(r) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" r "\n"
#define CRIA_BF16_512(r) "vdpbf16ps %%zmm14, %%zmm15, %%zmm" r "\n"
CRIA_PEAK_LOOP(dot_512, "zmm", CRIA_DOT_512)
CRIA_PEAK_LOOP(dot_256, "ymm", CRIA_DOT_256)
CRIA_PEAK_LOOP(dot_avx2, "ymm", CRIA_DOT_AVX2)
CRIA_PEAK_LOOP(fma_512, "zmm", CRIA_FMA_512)
CRIA_PEAK_LOOP(fma_256, "ymm", CRIA_FMA_256)
CRIA_PEAK_LOOP(bf16_512, "zmm", CRIA_BF16_512)

// `macs`: of one of the twelve.
double peak_gmacs(PeakLoop loop, int macs, ThreadPool& pool, const CancelFlag& cancel) {
  constexpr std::int64_t kRounds = 20'000;
  const std::int64_t chunks = 16 * pool.size();
  const double seconds = best_seconds(
      cancel, [&] { pool.parallel_for(chunks, 1, [&](std::int64_t, std::int64_t) { loop(kRounds); }); });
  return 1e-9 * static_cast<double>(chunks * 12 * kRounds * macs) / seconds;
}
#endif

}  // namespace

DeviceCeilings measure_machine(int threads, const CancelFlag& cancel, const std::string& level) {
  const std::string_view isa = choose_level(level).isa;
  ThreadPool pool(threads > 0 ? threads : usable_cores());
  DeviceCeilings found{pool.size(), read_gbs(pool, cancel), 0, 0, 0};
#if CRIA_HAVE_avx2
  const bool wide = isa.starts_with("avx512");
  if (isa != "portable") {
    const PeakLoop dot = wide ? dot_512 : isa == "avx_vnni" ? dot_256 : dot_avx2;
    found.int8_gmacs = peak_gmacs(dot, wide ? 64 : 32, pool, cancel);
    found.f32_gmacs = peak_gmacs(wide ? fma_512 : fma_256, wide ? 16 : 8, pool, cancel);
  }
  if (isa == "avx512_bf16") found.bf16_gmacs = peak_gmacs(bf16_512, 32, pool, cancel);
#endif
  return found;
}

}  // namespace cria
