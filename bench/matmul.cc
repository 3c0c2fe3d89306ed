// Products of each weight type at the CPU's level in use (CRIA_CPU_ISA chooses another): matrix-vector in
// GB/s of weights from the cache (1 thread) and streamed from memory, matrix-matrix in G multiply-adds/s, on
// 1 and on all threads; medians.
//   build/test/native/bench_matmul [cols] [tokens] [type ...]
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/huge_memory.h"
#include "kernels/backend.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/quantize.h"

namespace {

using namespace cria;

constexpr DType kTypes[] = {DType::q4_k, DType::q5_k, DType::q6_k, DType::q8_0,   DType::q4_0,
                            DType::bf16, DType::f16,  DType::f32,  DType::q2_k,   DType::q3_k,
                            DType::q4_1, DType::q5_0, DType::q5_1, DType::iq4_nl, DType::iq4_xs};

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

// With one thread its own CPU time, so that a busy machine disturbs it less.
double now(bool one_thread) {
  timespec t;
  clock_gettime(one_thread ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Seconds per call of project_residual, which is one product.
double time_product(Backend& backend, const Weight& w, const std::vector<float>& x, std::vector<float>& y,
                    int n, int runs) {
  std::vector<double> seconds;
  for (int i = 0; i <= runs; i++) {
    const bool one = backend.info().threads == 1;
    const double begin = now(one);
    backend.project_residual({n, w, x.data(), y.data()});
    const double took = now(one) - begin;
    if (i) seconds.push_back(took);
  }
  return median(seconds);
}

}  // namespace

int main(int argc, char** argv) {
  const std::int64_t cols = argc > 1 ? std::atoll(argv[1]) : 2048;
  const int tokens = argc > 2 ? std::atoi(argv[2]) : 512;
  std::printf("level %s, %lld columns\n%-7s %36s %28s\n", choose_level().isa, static_cast<long long>(cols),
              "type", "matrix-vector GB/s (cache, 1, all)", "matrix-matrix G/s (1, all)");
  std::mt19937_64 rng(1);
  std::normal_distribution<float> normal;
  for (const DType type : kTypes) {
    bool wanted = argc <= 3;
    for (int i = 3; i < argc; i++) wanted = wanted || name_of(type) == argv[i];
    if (!wanted) continue;
    const std::size_t row = row_bytes(type, static_cast<std::size_t>(cols));
    const std::int64_t rows = static_cast<std::int64_t>((std::size_t{256} << 20) / row) / 64 * 64;
    HugeMemory memory(row * static_cast<std::size_t>(rows) + (1 << 20), "the benchmark");
    std::vector<float> values(static_cast<std::size_t>(cols));
    for (std::int64_t r = 0; r < rows; r++) {
      std::byte* at = memory.data() + row * static_cast<std::size_t>(r);
      if (r >= 64) {
        std::memcpy(at, memory.data() + row * static_cast<std::size_t>(r % 64), row);
        continue;
      }
      for (float& v : values) v = normal(rng);
      quantize_row(type, values.data(), at, cols);
    }
    std::vector<float> x(static_cast<std::size_t>(cols) * static_cast<std::size_t>(tokens));
    for (float& v : x) v = normal(rng);
    std::vector<float> y(static_cast<std::size_t>(rows) * static_cast<std::size_t>(std::max(tokens, 1)));
    double gb[2], macs[2], cached = 0;
    for (int all = 0; all < 2; all++) {
      const auto backend = create_backend({"cpu", all ? 0 : 1});
      const Weight large{memory.data(), type, rows, cols};
      gb[all] = static_cast<double>(row) * static_cast<double>(rows) /
                time_product(*backend, large, x, y, 1, 9) / 1e9;
      if (!all) {
        const Weight few{memory.data(), type,
                         static_cast<std::int64_t>((std::size_t{384} << 10) / row) / 32 * 32, cols};
        cached = static_cast<double>(row) * static_cast<double>(few.rows) /
                 time_product(*backend, few, x, y, 1, 400) / 1e9;
      }
      const Weight small{memory.data(), type, 2048, cols};
      macs[all] =
          static_cast<double>(cols) * 2048 * tokens / time_product(*backend, small, x, y, tokens, 5) / 1e9;
    }
    std::printf("%-7s %10.1f %12.1f %12.1f %14.1f %13.1f\n", std::string(name_of(type)).c_str(), cached,
                gb[0], gb[1], macs[0], macs[1]);
    std::fflush(stdout);
  }
}
