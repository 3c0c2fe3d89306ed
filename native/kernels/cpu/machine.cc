#include "kernels/cpu/machine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "core/huge_memory.h"
#include "core/thread_pool.h"
#include "kernels/cpu/isa.h"

namespace cria {
namespace {

constexpr std::size_t kBytes = std::size_t{512} << 20;  // far more than any cache
constexpr std::size_t kChunk = std::size_t{2} << 20;
constexpr std::size_t kPrefetch = 4096;
constexpr double kSeconds = 0.3;  // for each figure

// Seconds of the fastest of many runs: whatever else this machine does can only slow one down.
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

std::uint64_t read_chunk(const std::byte* p) {
  std::uint64_t sums[16] = {};
  for (const std::byte* end = p + kChunk; p < end; p += sizeof sums) {
    __builtin_prefetch(p + kPrefetch);
    __builtin_prefetch(p + kPrefetch + 64);
    std::uint64_t words[16];
    std::memcpy(words, p, sizeof words);
    for (int i = 0; i < 16; i++) sums[i] ^= words[i];
  }
  std::uint64_t all = 0;
  for (const std::uint64_t sum : sums) all ^= sum;
  return all;
}

double read_gbs(ThreadPool& pool, const CancelFlag& cancel) {
  const HugeMemory memory(kBytes, "measuring the memory's bandwidth");
  const auto chunks = static_cast<std::int64_t>(kBytes / kChunk);
  pool.parallel_for(chunks, 1, [&](std::int64_t chunk, std::int64_t) {
    std::memset(memory.data() + static_cast<std::size_t>(chunk) * kChunk, static_cast<int>(chunk) + 1,
                kChunk);
  });
  std::atomic<std::uint64_t> sink{0};
  return 1e-9 * kBytes / best_seconds(cancel, [&] {
           pool.parallel_for(chunks, 1, [&](std::int64_t chunk, std::int64_t) {
             sink.fetch_xor(read_chunk(memory.data() + static_cast<std::size_t>(chunk) * kChunk),
                            std::memory_order_relaxed);
           });
         });
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
#endif

// `macs`: of one of the twelve.
double peak_gmacs(PeakLoop loop, int macs, ThreadPool& pool, const CancelFlag& cancel) {
  constexpr std::int64_t kRounds = 100'000;  // short: a thread that comes late still has its share
  const std::int64_t chunks = 16 * pool.size();
  const double seconds = best_seconds(
      cancel, [&] { pool.parallel_for(chunks, 1, [&](std::int64_t, std::int64_t) { loop(kRounds); }); });
  return 1e-9 * static_cast<double>(chunks * 12 * kRounds * macs) / seconds;
}

}  // namespace

MachineCeilings measure_machine(int threads, const CancelFlag& cancel) {
  ThreadPool pool(threads > 0 ? threads : usable_cores());
  MachineCeilings found{pool.size(), read_gbs(pool, cancel), 0, 0, 0};
#if CRIA_HAVE_avx2
  const std::string_view isa = choose_level().isa;
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
