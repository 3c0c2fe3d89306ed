// Attention over pages against a dense float64 one: every grouping, head size and context length around the
// edges.
#include <algorithm>
#include <numeric>

#include "core/float_bits.h"
#include "kernels/cpu/paged_attention.h"
#include "kernels/support.h"

using namespace cria;
using namespace cria::test;

namespace {

struct Pages {
  std::vector<std::uint8_t> bytes;
  std::vector<std::int32_t> block_table;
  std::size_t stride;
};

// K and V of one KV head, appended token by token into shuffled pages whose unused slots are NaN.
Pages append_all(const CpuKernels& kernels, std::mt19937_64& rng, const std::vector<float>& k,
                 const std::vector<float>& v, std::int32_t head_dim, std::int32_t n, bool f32) {
  Pages pages;
  pages.stride = kv_block_elements(head_dim) * (f32 ? 4 : 2);
  const std::int32_t count = (n + kCpuPageTokens - 1) / kCpuPageTokens;
  pages.bytes.assign(pages.stride * static_cast<std::size_t>(count + 1), 0xff);  // NaN in both types
  pages.block_table.resize(static_cast<std::size_t>(count));
  std::iota(pages.block_table.begin(), pages.block_table.end(), 1);
  std::shuffle(pages.block_table.begin(), pages.block_table.end(), rng);
  for (std::int32_t t = 0; t < n; t++) {
    std::uint8_t* block = pages.bytes.data() +
                          pages.stride * static_cast<std::size_t>(
                                             pages.block_table[static_cast<std::size_t>(t / kCpuPageTokens)]);
    kernels.append_kv(k.data() + t * head_dim, v.data() + t * head_dim, head_dim, block, t % kCpuPageTokens,
                      f32);
  }
  return pages;
}

}  // namespace

TEST_CASE("one span equals dense attention, and the portable level bit for bit") {
  CRIA_SEEDED_RNG(rng);
  for (const bool f32 : {false, true}) {
    for (const std::int32_t head_dim : {2, 8, 64, 80, 100, 128}) {
      for (const std::int32_t group : {1, 2, 3, 4, 7, 8}) {
        for (const std::int32_t n : {1, 31, 32, 33, 130, 300}) {
          CAPTURE(f32);
          CAPTURE(head_dim);
          CAPTURE(group);
          CAPTURE(n);
          std::vector<float> k = random_floats(rng, static_cast<std::size_t>(n * head_dim));
          std::vector<float> v = random_floats(rng, static_cast<std::size_t>(n * head_dim));
          const std::vector<float> q = random_floats(rng, static_cast<std::size_t>(group * head_dim), 2.0f);
          const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
          const auto stored = [&](float x) { return f32 ? x : f16_to_f32(f32_to_f16(x)); };
          std::vector<double> expected;
          double summed = 0;  // squares of what is summed: values may cancel, their errors do not
          for (std::int32_t h = 0; h < group; h++) {
            std::vector<double> p(static_cast<std::size_t>(n));
            double top = -INFINITY, sum = 0;
            for (std::int32_t t = 0; t < n; t++) {
              double s = 0;
              for (std::int32_t d = 0; d < head_dim; d++)
                s += static_cast<double>(q[static_cast<std::size_t>(h * head_dim + d)]) *
                     static_cast<double>(stored(k[static_cast<std::size_t>(t * head_dim + d)]));
              p[static_cast<std::size_t>(t)] = s * scale;
              top = std::max(top, s * scale);
            }
            for (double& s : p) sum += s = std::exp(s - top);
            for (std::int32_t d = 0; d < head_dim; d++) {
              double o = 0;
              for (std::int32_t t = 0; t < n; t++) {
                const double term =
                    p[static_cast<std::size_t>(t)] *
                    static_cast<double>(stored(v[static_cast<std::size_t>(t * head_dim + d)]));
                o += term;
                summed += term / sum * (term / sum);
              }
              expected.push_back(o / sum);
            }
          }
          std::vector<float> portable;
          for (const CpuKernels* level : runnable_levels()) {
            CAPTURE(level->isa);
            std::mt19937_64 pages_rng(7);
            const Pages pages = append_all(*level, pages_rng, k, v, head_dim, n, f32);
            const std::int32_t padded = padded_head_dim(head_dim);
            std::vector<float> max(static_cast<std::size_t>(group)), sum(max),
                out(static_cast<std::size_t>(group * padded), NAN);
            const AttendSpan span{
                .q = q.data(),
                .q_token_stride = 0,
                .n_queries = 1,
                .group = group,
                .head_dim = head_dim,
                .scale = static_cast<float>(scale),
                .pages = pages.bytes.data(),
                .page_stride = pages.stride,
                .block_table = pages.block_table.data(),
                .n_tokens = n,
                .max_tokens = n,
                .kv_f32 = f32,
                .state = {.max = max.data(), .sum = sum.data(), .out = out.data(), .out_stride = padded}};
            level->attend(&span);
            std::vector<float> y;
            for (std::int32_t h = 0; h < group; h++)
              for (std::int32_t d = 0; d < head_dim; d++)
                y.push_back(out[static_cast<std::size_t>(h * padded + d)] / sum[static_cast<std::size_t>(h)]);
            double error = 0;
            for (std::size_t i = 0; i < y.size(); i++) error += (y[i] - expected[i]) * (y[i] - expected[i]);
            REQUIRE(std::sqrt(error) < 4e-6 * std::sqrt(summed));
            if (portable.empty()) portable = y;
            REQUIRE(same_bits(y, portable));
          }
        }
      }
    }
  }
}

TEST_CASE("merged spans equal one span in value, and every level in bits") {
  CRIA_SEEDED_RNG(rng);
  const std::int32_t group = 3, dim = 20, padded = padded_head_dim(dim);
  const auto floats = [&](std::size_t n) { return random_floats(rng, n); };
  std::vector<float> max1 = floats(3), max2 = floats(3), out1 = floats(3 * 32), out2 = floats(3 * 32);
  std::vector<float> sum1 = floats(3), sum2 = floats(3);
  for (float& s : sum1) s = std::fabs(s) + 1;
  for (float& s : sum2) s = std::fabs(s) + 1;
  std::vector<float> first;
  for (const CpuKernels* level : runnable_levels()) {
    std::vector<float> max = max1, sum = sum1, out = out1;
    const SoftmaxState state{.max = max.data(), .sum = sum.data(), .out = out.data(), .out_stride = padded};
    const SoftmaxState later{
        .max = max2.data(), .sum = sum2.data(), .out = out2.data(), .out_stride = padded};
    level->merge_softmax(&state, &later, group, dim);
    for (std::size_t h = 0; h < 3; h++) {
      const double top = std::max(max1[h], max2[h]), a = std::exp(max1[h] - top), b = std::exp(max2[h] - top);
      CHECK(static_cast<double>(max[h]) == top);
      CHECK(sum[h] == doctest::Approx(sum1[h] * a + sum2[h] * b).epsilon(1e-6));
      for (std::size_t d = 0; d < static_cast<std::size_t>(dim); d++)
        CHECK(out[h * 32 + d] == doctest::Approx(out1[h * 32 + d] * a + out2[h * 32 + d] * b).epsilon(1e-5));
    }
    if (first.empty()) first = out;
    CHECK(same_bits(out, first));
  }
}

TEST_CASE("a token's attention has the same bits alone and among others, whoever computes which part") {
  CRIA_SEEDED_RNG(rng);
  const CpuKernels& kernels = *runnable_levels().back();
  const AttentionShape shape{6, 2, 20, 20, false};
  const std::int32_t head_dim = shape.head_dim, q_dim = shape.n_heads * head_dim, pages_each = 66;
  // Contexts of one span and of several, decoded and as the end of a prompt: enough for two threads, too few
  // for many, whose spans are shared out.
  const std::vector<std::pair<std::int32_t, std::int32_t>> sequences = {
      {2100, 1}, {3, 3}, {520, 15}, {600, 1}, {31, 1}, {33, 1}, {1030, 40}};
  const std::size_t block = kv_block_elements(head_dim) * sizeof(std::uint16_t);
  std::vector<std::uint8_t> memory(2 * block * pages_each * sequences.size(), 0xff);
  std::vector<std::int32_t> block_table(pages_each * sequences.size());
  std::iota(block_table.begin(), block_table.end(), 0);
  std::shuffle(block_table.begin(), block_table.end(), rng);
  std::vector<std::int32_t> positions, sequence_of;
  for (std::size_t i = 0; i < sequences.size(); i++) {
    const auto [context, tokens] = sequences[i];
    for (std::int32_t t = 0; t < context; t++)
      for (std::size_t h = 0; h < 2; h++) {
        const std::vector<float> kv = random_floats(rng, static_cast<std::size_t>(2 * head_dim));
        const auto page = static_cast<std::size_t>(
            block_table[i * pages_each + static_cast<std::size_t>(t / kCpuPageTokens)]);
        kernels.append_kv(kv.data(), kv.data() + head_dim, head_dim, memory.data() + (2 * page + h) * block,
                          t % kCpuPageTokens, false);
      }
    for (std::int32_t t = 0; t < tokens; t++) {
      positions.push_back(context - tokens + t);
      sequence_of.push_back(static_cast<std::int32_t>(i));
    }
  }
  const auto n = static_cast<std::int32_t>(positions.size());
  const std::vector<float> q = random_floats(rng, static_cast<std::size_t>(n * q_dim), 2.0f);
  const auto attended = [&](std::int32_t first, std::int32_t count, int threads) {
    Batch batch{};
    batch.n_tokens = count;
    batch.n_sequences = static_cast<std::int32_t>(sequences.size());
    batch.positions = positions.data() + first;
    batch.sequence_of = sequence_of.data() + first;
    batch.block_table = block_table.data();
    batch.block_table_stride = pages_each;
    const KvLayer kv{reinterpret_cast<std::byte*>(memory.data()), 2 * block, DType::f16, kCpuPageTokens};
    std::vector<float> out(static_cast<std::size_t>(count * q_dim), NAN);
    ThreadPool pool(threads);
    PagedAttention().run(kernels, pool, {&batch, shape, q.data() + first * q_dim, kv, out.data()});
    return out;
  };
  std::vector<float> alone;
  for (std::int32_t t = 0; t < n; t++) {
    const std::vector<float> one = attended(t, 1, 1);
    alone.insert(alone.end(), one.begin(), one.end());
  }
  for (const float x : alone) REQUIRE(std::isfinite(x));
  for (const int threads : {1, 2, 16}) CHECK(same_bits(attended(0, n, threads), alone));
}
