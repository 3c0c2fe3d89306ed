// Tests of the emulator itself: it must catch kernels broken on purpose, and pass correct ones.
#include <algorithm>
#include <functional>

#include "core/float_bits.h"
#include "cuda/mutants.h"
#include "cuda/support.h"
#include "cuda_emulation/emulator.h"

using namespace cria;
using namespace cria::test;
using cuda::emulation::KernelFault;
using cuda::emulation::race_detector_active;

namespace {

struct Outcome {
  bool caught = false;
  std::string how;
};

/// Runs a kernel and checks its output. A fault or a wrong value counts as caught.
Outcome outcome(const std::function<bool()>& right) {
  try {
    return right() ? Outcome{} : Outcome{true, "a wrong result"};
  } catch (const KernelFault& fault) {
    return {true, fault.what()};
  }
}

struct Case {
  Mutation mutation;
  const char* name;
  const char* must_say;  // text of the expected fault; "" when a wrong result suffices
  bool needs_race_detector = false;
  bool breaks_memory = false;  // skipped under AddressSanitizer, which would end the process
};

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kAddressSanitizer = true;
#elif defined(__has_feature)
constexpr bool kAddressSanitizer = __has_feature(address_sanitizer);
#else
constexpr bool kAddressSanitizer = false;
#endif

/// Each mutation is caught under most orders of threads; `none` passes under all of them.
void check(std::initializer_list<Case> cases, const std::function<bool(Mutation)>& right) {
  constexpr int kOrders = 8;
  for (const Case& c : cases) {
    if ((c.needs_race_detector && !race_detector_active()) || (c.breaks_memory && kAddressSanitizer))
      continue;
    const std::string name = c.name;
    CAPTURE(name);
    int caught = 0;
    std::string how;
    for (int i = 0; i < kOrders; i++) {
      const Outcome o = outcome([&] { return right(c.mutation); });
      caught += o.caught;
      if (o.caught && (how.empty() || o.how.find(c.must_say) != std::string::npos)) how = o.how;
    }
    CAPTURE(how);
    if (c.mutation == Mutation::none)
      CHECK(caught == 0);
    else {
      CHECK(caught >= kOrders / 2);
      CHECK(how.find(c.must_say) != std::string::npos);
    }
  }
}

}  // namespace

TEST_CASE("mutants of a tiled product") {
  CRIA_SEEDED_RNG(rng);
  const int m = 70, n = 65, k = 200;
  std::vector<std::uint16_t> a, b;
  for (const float v : random_floats(rng, static_cast<std::size_t>(m * k))) a.push_back(f32_to_f16(v));
  for (const float v : random_floats(rng, static_cast<std::size_t>(n * k))) b.push_back(f32_to_f16(v));
  const DeviceArray<std::uint16_t> da(a), db(b);
  std::vector<float> expected;
  for (int i = 0; i < m; i++)
    for (int j = 0; j < n; j++) {
      double sum = 0;
      for (int e = 0; e < k; e++)
        sum += static_cast<double>(f16_to_f32(a[static_cast<std::size_t>(i * k + e)])) *
               static_cast<double>(f16_to_f32(b[static_cast<std::size_t>(j * k + e)]));
      expected.push_back(static_cast<float>(sum));
    }
  for (const bool mbarriers : {false, true}) {
    CAPTURE(mbarriers);
    const auto right = [&](Mutation mutation) {
      const DeviceArray<float> c(expected.size());
      tiled_product(mutation, mbarriers, da.data(), db.data(), c.data(), m, n, k);
      return relative_error(c.get(), expected) < 1e-6;
    };
    if (mbarriers)
      check({{Mutation::none, "none", ""},
             {Mutation::barrier_removed, "barrier_removed", "", true},
             {Mutation::wait_removed, "wait_removed", ""},
             {Mutation::wrong_parity, "wrong_parity", ""},
             {Mutation::arrival_missing, "arrival_missing", "mbarrier.try_wait"}},
            right);
    else
      check({{Mutation::none, "none", ""},
             {Mutation::barrier_removed, "barrier_removed", ""},
             {Mutation::wait_removed, "wait_removed", ""},
             {Mutation::wait_too_weak, "wait_too_weak", ""},
             {Mutation::load_bounds_removed, "load_bounds_removed", "no allocation holds"},
             {Mutation::store_bounds_removed, "store_bounds_removed", "device memory", false, true},
             {Mutation::fragments_swapped, "fragments_swapped", "a wrong result"},
             {Mutation::divergent_barrier, "divergent_barrier", ""}},
            right);
  }
}

TEST_CASE("mutants of a sum over the grid") {
  CRIA_SEEDED_RNG(rng);
  std::vector<float> x(3000);
  float expected = 0;
  for (float& v : x) expected += v = static_cast<float>(rng() % 64);
  const DeviceArray<float> dx(x), parts(11);
  check({{Mutation::none, "none", ""},
         {Mutation::barrier_removed, "barrier_removed", ""},
         {Mutation::divergent_shuffle, "divergent_shuffle", "__shfl"},
         {Mutation::shuffle_outside_mask, "shuffle_outside_mask", "leaves out"},
         {Mutation::early_exit, "early_exit", "__syncthreads"},
         {Mutation::fence_removed, "fence_removed", "race", true},
         {Mutation::counter_not_reset, "counter_not_reset", "a wrong result"}},
        [&](Mutation mutation) {
          const DeviceArray<std::uint32_t> counter(std::vector<std::uint32_t>{0});
          const DeviceArray<float> sum(std::vector<float>{0.0f});
          for (int i = 0; i < 2; i++)
            grid_sum(mutation, dx.data(), parts.data(), counter.data(), sum.data(),
                     static_cast<int>(x.size()), 11);
          return sum.get()[0] == 2 * expected;
        });
}

TEST_CASE("mutants of neighbours in shared memory") {
  CRIA_SEEDED_RNG(rng);
  const std::vector<float> x = random_floats(rng, 200);
  std::vector<float> expected;
  for (std::size_t i = 0; i < x.size(); i++)
    expected.push_back((i ? x[i - 1] : 0.0f) + x[i] + (i + 1 < x.size() ? x[i + 1] : 0.0f));
  const DeviceArray<float> dx(x);
  check({{Mutation::none, "none", ""},
         {Mutation::shared_overrun, "shared_overrun", "index 258 of an array of 258"},
         {Mutation::shared_overrun_pointer, "shared_overrun_pointer", "shared memory", false, true},
         {Mutation::uninitialised_shared, "uninitialised_shared", "a wrong result"},
         {Mutation::syncwarp_removed, "syncwarp_removed", ""}},
        [&](Mutation mutation) {
          const DeviceArray<float> out(x.size());
          neighbours(mutation, dx.data(), out.data(), static_cast<int>(x.size()));
          return out.get() == expected;
        });
}

TEST_CASE("mutants of bulk copies") {
  CRIA_SEEDED_RNG(rng);
  const std::vector<float> x = random_floats(rng, 64 * 7);
  std::vector<float> expected(x.rbegin(), x.rend());
  const DeviceArray<float> dx(x);
  check({{Mutation::none, "none", ""},
         {Mutation::wait_removed, "wait_removed", ""},
         {Mutation::bytes_misannounced, "bytes_misannounced", "mbarrier"},
         {Mutation::reused_too_early, "reused_too_early", ""}},
        [&](Mutation mutation) {
          const DeviceArray<float> out(x.size());
          reverse_bulk(mutation, dx.data(), out.data(), static_cast<int>(x.size()));
          return out.get() == expected;
        });
}
