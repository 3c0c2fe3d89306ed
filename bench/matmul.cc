// Products of each weight type at the CPU's level in use (CRIA_CPU_ISA chooses another), in G multiply-adds/s
// and GB/s of weights, on one thread and on all; medians. Up to 64 tokens, 256 MiB of weights stream from
// memory; more tokens are multiplied with 2048 rows. "cache": 384 KiB of weights, one thread. "file": weights
// in the file's layout, as with `mmap`.
//   build/test/native/bench_matmul [file] [cols] [tokens,...] [type ...]
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "core/huge_memory.h"
#include "kernels/backend.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/quantize.h"

namespace {

using namespace cria;

constexpr std::int64_t kStreamedTokens = 64, kFewRows = 2048;

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
    backend.ops().project_residual({n, w, x.data(), y.data()});
    const double took = now(one) - begin;
    if (i) seconds.push_back(took);
  }
  return median(seconds);
}

// The weights as a model's are kept; `file`: where they lie.
Weight keep(Backend& backend, const Weight& w, bool file) {
  if (file) return w;
  const WeightSpec spec{w.dtype, w.rows, w.cols};
  const auto upload = backend.weights().upload({&spec, 1});
  for (std::size_t i = 0; i < upload->parts().size(); i++)
    upload->fill(i, [&](const WeightRange& range, void* to) {
      std::memcpy(to, static_cast<const std::byte*>(w.data) + range.offset, range.bytes);
    });
  return upload->finish()[0];
}

}  // namespace

int main(int argc, char** argv) {
  const bool file = argc > 1 && std::strcmp(argv[1], "file") == 0;
  if (file) argc--, argv++;
  const std::int64_t cols = argc > 1 ? std::atoll(argv[1]) : 2048;
  std::vector<int> token_counts;
  std::stringstream list(argc > 2 ? argv[2] : "1,512");
  for (std::string count; std::getline(list, count, ',');) token_counts.push_back(std::stoi(count));
  const std::int64_t max_tokens = *std::max_element(token_counts.begin(), token_counts.end());
  std::printf("level %s, %lld columns\n%-7s %6s %11s %11s %11s %11s %11s %11s\n", choose_level().isa,
              static_cast<long long>(cols), "type", "tokens", "1: G/s", "1: GB/s", "all: G/s", "all: GB/s",
              "cache: G/s", "cache: GB/s");
  std::mt19937_64 rng(1);
  std::normal_distribution<float> normal;
  for (const DTypeTraits& traits : kDTypes) {
    const DType type = traits.dtype;
    bool wanted = traits.is_weight && argc <= 3;
    for (int i = 3; i < argc; i++) wanted = wanted || (traits.is_weight && traits.name == argv[i]);
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
    std::vector<float> x(static_cast<std::size_t>(cols * max_tokens));
    for (float& v : x) v = normal(rng);
    std::vector<float> y(static_cast<std::size_t>(
        std::max(rows * std::min(max_tokens, kStreamedTokens), kFewRows * max_tokens)));
    for (const int tokens : token_counts) {
      const Weight weights{memory.data(), type, tokens <= kStreamedTokens ? rows : kFewRows, cols};
      std::printf("%-7s %6d", std::string(traits.name).c_str(), tokens);
      for (const int threads : {1, 0}) {
        const auto backend = create_backend({"cpu", threads});
        const double seconds =
            time_product(*backend, keep(*backend, weights, file), x, y, tokens, tokens == 1 ? 9 : 5);
        const double products = static_cast<double>(cols) * static_cast<double>(weights.rows) * tokens;
        const double bytes = static_cast<double>(row) * static_cast<double>(weights.rows);
        std::printf(" %11.1f %11.1f", products / seconds / 1e9, bytes / seconds / 1e9);
      }
      if (tokens <= kStreamedTokens) {
        const auto backend = create_backend({"cpu", 1});
        const Weight few{memory.data(), type,
                         static_cast<std::int64_t>((std::size_t{384} << 10) / row) / 32 * 32, cols};
        const double seconds = time_product(*backend, keep(*backend, few, file), x, y, tokens, 400 / tokens);
        std::printf(" %11.1f %11.1f",
                    static_cast<double>(cols) * static_cast<double>(few.rows) * tokens / seconds / 1e9,
                    static_cast<double>(row) * static_cast<double>(few.rows) / seconds / 1e9);
      }
      std::printf("\n");
      std::fflush(stdout);
    }
  }
}
