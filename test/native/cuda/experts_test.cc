// Mixtures of experts on CUDA: the router's choice with the CPU's bits, rows and groups, grouped products
// with the bits of plain ones.
#include "kernels/cuda/experts.h"

#include <algorithm>
#include <numeric>

#include "cuda/support.h"
#include "kernels/support.h"

using namespace cria;
using namespace cria::test;

namespace {

/// The arrays of ExpertRoutes.
struct Routes {
  DeviceArray<std::int32_t> experts, row_of, token_of;
  DeviceArray<float> weights;
  DeviceArray<cuda::RowGroup> groups;
  explicit Routes(const cuda::ExpertPlan& plan)
      : experts(static_cast<std::size_t>(plan.n_tokens * plan.n_used)),
        row_of(experts.size()),
        token_of(static_cast<std::size_t>(plan.max_rows)),
        weights(experts.size()),
        groups(static_cast<std::size_t>(plan.max_groups)) {}
  cuda::ExpertRoutes arrays() const {
    return {.experts = experts.data(),
            .weights = weights.data(),
            .row_of = row_of.data(),
            .token_of = token_of.data(),
            .groups = groups.data()};
  }
};

/// Experts by probability, the lower index among equals, and their weights.
struct Choice {
  std::vector<std::int32_t> experts;
  std::vector<float> weights;
};
Choice choose(const std::vector<float>& logits, std::int32_t n_experts, std::int32_t n_used) {
  Choice choice;
  const auto n = static_cast<std::size_t>(n_experts), used = static_cast<std::size_t>(n_used);
  for (std::size_t at = 0; at < logits.size(); at += n) {
    std::vector<float> p(n);
    runnable_levels().back()->softmax(logits.data() + at, p.data(), n_experts);
    std::vector<std::int32_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, [&](std::int32_t a, std::int32_t b) {
      return p[static_cast<std::size_t>(a)] > p[static_cast<std::size_t>(b)];
    });
    float sum = 0;
    for (std::size_t i = 0; i < used; i++) sum += p[static_cast<std::size_t>(order[i])];
    for (std::size_t i = 0; i < used; i++) {
      choice.experts.push_back(order[i]);
      choice.weights.push_back(p[static_cast<std::size_t>(order[i])] / sum);
    }
  }
  return choice;
}

/// Every pair has a row of its own, in a group of its expert; groups are ordered, aligned and not too large.
void check_rows(const cuda::ExpertPlan& plan, const Routes& routes) {
  const std::vector<std::int32_t> experts = routes.experts.get(), row_of = routes.row_of.get(),
                                  token_of = routes.token_of.get();
  std::vector<std::int32_t> matrix_of(static_cast<std::size_t>(plan.max_rows), -1);
  std::int32_t grouped = 0;
  bool ended = false;
  for (const cuda::RowGroup& group : routes.groups.get()) {
    if (group.n_rows == 0) ended = true;
    if (ended) {
      CHECK(group.n_rows == 0);
      continue;
    }
    REQUIRE(group.n_rows <= plan.group_rows);
    REQUIRE(group.first_row % cuda::group_alignment(plan.group_rows) == 0);
    REQUIRE(group.first_row + group.n_rows <= plan.max_rows);
    for (std::int32_t i = 0; i < group.n_rows; i++) {
      std::int32_t& matrix = matrix_of[static_cast<std::size_t>(group.first_row + i)];
      REQUIRE(matrix == -1);
      matrix = group.matrix;
    }
    grouped += group.n_rows;
  }
  CHECK(grouped == plan.n_tokens * plan.n_used);
  std::vector<bool> taken(matrix_of.size());
  for (std::size_t pair = 0; pair < experts.size(); pair++) {
    const auto row = static_cast<std::size_t>(row_of[pair]);
    REQUIRE(row < matrix_of.size());
    REQUIRE_FALSE(taken[row]);
    taken[row] = true;
    REQUIRE(matrix_of[row] == experts[pair]);
    REQUIRE(token_of[row] == static_cast<std::int32_t>(pair) / plan.n_used);
  }
  for (std::size_t row = 0; row < taken.size(); row++)
    if (!taken[row]) REQUIRE(token_of[row] == -1);
}

}  // namespace

TEST_CASE("experts are chosen and weighted with the CPU's bits, and every pair gets a row") {
  CRIA_SEEDED_RNG(rng);
  for (const auto& [n_experts, n_used] : {std::pair{1, 1}, std::pair{8, 2}, std::pair{5, 5}, std::pair{31, 3},
                                          std::pair{64, 8}, std::pair{512, 4}})
    for (const std::int32_t n_tokens : {1, 3, 66})
      for (const std::int32_t group_rows : {cuda::kSmallGroupRows, cuda::kLargeGroupRows}) {
        CAPTURE(n_experts);
        CAPTURE(n_tokens);
        std::vector<float> logits = random_floats(rng, static_cast<std::size_t>(n_tokens * n_experts), 3.0f);
        // Ties, and probabilities of zero.
        for (std::size_t i = 0; i < logits.size(); i += 3) logits[i] = std::round(logits[i]);
        for (std::size_t i = 0; i < logits.size(); i += 7) logits[i] = -200.0f;
        const cuda::ExpertPlan plan =
            cuda::expert_plan(n_tokens, {.n_experts = n_experts, .n_used = n_used}, group_rows);
        const Routes routes(plan);
        const DeviceArray<float> on_device(logits);
        cuda::route_experts(plan, on_device.data(), routes.arrays(), nullptr);
        const Choice choice = choose(logits, n_experts, n_used);
        CHECK(routes.experts.get() == choice.experts);
        CHECK(same_bits(routes.weights.get(), choice.weights));
        check_rows(plan, routes);
      }
}

TEST_CASE("one expert for all tokens, and logits that are no numbers") {
  const cuda::ExpertPlan plan = cuda::expert_plan(150, {.n_experts = 8, .n_used = 2}, cuda::kLargeGroupRows);
  const Routes routes(plan);
  std::vector<float> logits(150 * 8, 0.0f);
  for (std::size_t t = 0; t < 150; t++) logits[t * 8 + 6] = 2.0f, logits[t * 8 + 1] = 1.0f;
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    logits[40 * 8 + 3] = bad;
    if (bad == -INFINITY)
      for (std::size_t e = 0; e < 8; e++) logits[70 * 8 + e] = bad;
    const DeviceArray<float> on_device(logits);
    cuda::route_experts(plan, on_device.data(), routes.arrays(), nullptr);
    check_rows(plan, routes);
    const std::vector<std::int32_t> experts = routes.experts.get();
    const std::vector<float> weights = routes.weights.get();
    CHECK(experts[0] == 6);
    CHECK(experts[1] == 1);
    CHECK(std::isnan(weights[80]) == (bad != -INFINITY));
    CHECK(std::isnan(weights[140]) == (bad == -INFINITY));
  }
}

TEST_CASE("grouped products have the bits of plain ones, and leave other rows alone") {
  CRIA_SEEDED_RNG(rng);
  const cuda::MatmulDevice device = cuda::prepare_matmul(cuda::device_properties(0));
  // The last devices have little shared memory, so that a large group takes several blocks.
  const cuda::MatmulDevice devices[] = {
      device, {9, 1, device.shared_per_block}, {12, 1, 99u << 10}, {7, 1, 64u << 10}};
  constexpr std::int64_t kRows = 37, kMatrices = 3;
  for (const DType dtype : kWeightTypes) {
    CAPTURE(std::string(name_of(dtype)));
    const std::int64_t cols = traits_of(dtype).block_size == 1 ? 200 : 512;
    std::vector<TestMatrix> matrices;
    for (std::int64_t m = 0; m < kMatrices; m++) matrices.emplace_back(rng, dtype, kRows, cols);
    const std::size_t stride = cuda::packed_bytes(dtype, kRows, cols) + 256,
                      fused_stride = cuda::packed_gate_up_bytes(dtype, kRows, cols) + 256;
    std::vector<std::uint8_t> packed(stride * kMatrices), fused(fused_stride * kMatrices);
    for (std::size_t m = 0; m < matrices.size(); m++) {
      const auto& up = matrices[(m + 1) % matrices.size()];
      cuda::repack_rows(dtype, cols, matrices[m].bytes.data(), kRows, packed.data() + m * stride);
      cuda::repack_gate_up(dtype, cols, matrices[m].bytes.data(), up.bytes.data(), kRows,
                           fused.data() + m * fused_stride);
    }
    const DeviceArray<std::uint8_t> weights(packed), gate_up(fused);
    for (const std::int32_t group_rows : {cuda::kSmallGroupRows, cuda::kLargeGroupRows}) {
      const bool large = group_rows == cuda::kLargeGroupRows;
      if (large && !cuda::takes_large_groups(device, dtype)) continue;
      CAPTURE(group_rows);
      const std::vector<cuda::RowGroup> groups =
          large ? std::vector<cuda::RowGroup>{{0, 0, 3}, {2, 4, 64}, {2, 68, 9}, {0, 0, 0}}
                : std::vector<cuda::RowGroup>{{0, 0, 1}, {1, 1, 8}, {1, 9, 5}, {0, 0, 0}};
      const std::int32_t n = large ? 80 : 14;
      const std::vector<float> x = random_floats(rng, static_cast<std::size_t>(n * cols));
      const DeviceArray<float> dx(x);
      const DeviceArray<cuda::RowGroup> on_device(groups);
      const cuda::ActivationForm form = cuda::activation_form(dtype);
      const DeviceArray<std::uint8_t> activations(cuda::activation_bytes(form, n, cols));
      cuda::quantize_activations(form, dx.data(), n, cols, activations.data(), nullptr);
      for (const cuda::MatmulDevice& on : devices) {
        if (large && !cuda::takes_large_groups(on, dtype)) continue;
        for (const auto epilogue : {cuda::Epilogue::store, cuda::Epilogue::swiglu}) {
          const bool swiglu = epilogue == cuda::Epilogue::swiglu;
          const std::size_t step = swiglu ? fused_stride : stride;
          const std::uint8_t* const matrix = swiglu ? gate_up.data() : weights.data();
          std::vector<float> expected(static_cast<std::size_t>(n * kRows), 0.5f);
          for (const cuda::RowGroup& group : groups) {
            if (group.n_rows == 0) continue;
            const DeviceArray<std::uint8_t> own(cuda::activation_bytes(form, group.n_rows, cols));
            const DeviceArray<float> y(static_cast<std::size_t>(group.n_rows * kRows));
            cuda::quantize_activations(form, dx.data() + group.first_row * cols, group.n_rows, cols,
                                       own.data(), nullptr);
            cuda::matmul(
                device,
                {.weight = {matrix + static_cast<std::size_t>(group.matrix) * step, dtype, kRows, cols},
                 .activations = own.data(),
                 .n_tokens = group.n_rows,
                 .y = y.data(),
                 .y_stride = kRows,
                 .epilogue = epilogue},
                nullptr);
            std::ranges::copy(y.get(), expected.begin() + group.first_row * kRows);
          }
          const DeviceArray<float> y(std::vector<float>(expected.size(), 0.5f));
          cuda::matmul_groups(on,
                              {.weight = {matrix, dtype, kRows, cols},
                               .activations = activations.data(),
                               .n_tokens = n,
                               .y = y.data(),
                               .y_stride = kRows,
                               .epilogue = epilogue},
                              {.groups = on_device.data(),
                               .n_groups = static_cast<std::int32_t>(groups.size()),
                               .group_rows = group_rows,
                               .matrix_stride = static_cast<std::int64_t>(step)},
                              nullptr);
          CHECK(same_bits(y.get(), expected));
        }
      }
    }
  }
}

TEST_CASE("rows of x are normalized and quantized where a row wants them") {
  CRIA_SEEDED_RNG(rng);
  const std::vector<float> x = random_floats(rng, 5 * 512), norm = random_floats(rng, 512);
  const std::vector<std::int32_t> source = {4, -1, 0, 4, 2, -1};
  std::vector<float> gathered;
  for (const std::int32_t row : source)
    gathered.insert(gathered.end(), x.begin() + std::max(row, 0) * 512,
                    x.begin() + (std::max(row, 0) + 1) * 512);
  const DeviceArray<float> dx(x), dg(gathered), dn(norm);
  const DeviceArray<std::int32_t> on_device(source);
  const TestMatrix w(rng, DType::q4_k, 16, 512);
  std::vector<std::uint8_t> packed(cuda::packed_bytes(w.dtype, w.rows, w.cols));
  cuda::repack_rows(w.dtype, w.cols, w.bytes.data(), w.rows, packed.data());
  const DeviceArray<std::uint8_t> weights(packed);
  const cuda::ActivationForm form = cuda::activation_form(w.dtype);
  const DeviceArray<std::uint8_t> activations(cuda::activation_bytes(form, 6, 512));
  std::vector<std::vector<float>> results;
  for (const bool by_rows : {true, false}) {
    if (by_rows)
      cuda::rms_norm_quantize_rows(form, dx.data(), dn.data(), 1e-5f, on_device.data(), 6, 512,
                                   activations.data(), nullptr);
    else
      cuda::rms_norm_quantize(form, dg.data(), dn.data(), 1e-5f, 6, 512, activations.data(), nullptr);
    const DeviceArray<float> y(6 * 16);
    cuda::matmul(cuda::prepare_matmul(cuda::device_properties(0)),
                 {.weight = {weights.data(), w.dtype, w.rows, w.cols},
                  .activations = activations.data(),
                  .n_tokens = 6,
                  .y = y.data(),
                  .y_stride = 16},
                 nullptr);
    results.push_back(y.get());
  }
  for (std::size_t row = 0; row < source.size(); row++)
    if (source[row] >= 0)
      CHECK(std::memcmp(results[0].data() + row * 16, results[1].data() + row * 16, 16 * sizeof(float)) == 0);
}

TEST_CASE("the experts' outputs are added by rank, then to x") {
  CRIA_SEEDED_RNG(rng);
  const std::int32_t n_tokens = 7, n_experts = 6, n_used = 3;
  const std::int64_t hidden = 300;
  const cuda::ExpertPlan plan =
      cuda::expert_plan(n_tokens, {.n_experts = n_experts, .n_used = n_used}, cuda::kSmallGroupRows);
  const Routes routes(plan);
  const DeviceArray<float> logits(random_floats(rng, static_cast<std::size_t>(n_tokens * n_experts)));
  cuda::route_experts(plan, logits.data(), routes.arrays(), nullptr);
  const std::vector<float> outputs = random_floats(rng, static_cast<std::size_t>(plan.max_rows * hidden));
  std::vector<float> expected = random_floats(rng, static_cast<std::size_t>(n_tokens * hidden));
  const DeviceArray<float> on_device(outputs), x(expected);
  cuda::add_expert_outputs(plan, routes.arrays(), on_device.data(), hidden, x.data(), nullptr);
  const std::vector<std::int32_t> row_of = routes.row_of.get();
  const std::vector<float> weights = routes.weights.get();
  for (std::int64_t t = 0; t < n_tokens; t++)
    for (std::int64_t c = 0; c < hidden; c++) {
      float sum = 0;
      for (std::int64_t i = 0; i < n_used; i++) {
        const auto pair = static_cast<std::size_t>(t * n_used + i);
        const float term = outputs[static_cast<std::size_t>(row_of[pair] * hidden + c)] * weights[pair];
        sum = i == 0 ? term : sum + term;
      }
      expected[static_cast<std::size_t>(t * hidden + c)] += sum;
    }
  CHECK(same_bits(x.get(), expected));
}
