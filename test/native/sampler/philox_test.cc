#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <set>

#include "core/sampling_math.h"
#include "sampler_reference.h"

using namespace cria;

namespace {

using Words = std::array<std::uint32_t, 4>;

Words philox(Words counter, std::array<std::uint32_t, 2> key) {
  std::uint32_t words[4] = {counter[0], counter[1], counter[2], counter[3]};
  philox4x32_10(words, key[0], key[1]);
  return {words[0], words[1], words[2], words[3]};
}

}  // namespace

TEST_CASE("Philox4x32-10 gives the published answers") {
  // Known-answer vectors of the paper's own library, Random123.
  CHECK(philox({0, 0, 0, 0}, {0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("seed and position fill key and counter as documented") {
  const auto words = philox({0x89abcdef, 0x01234567, 0, 0}, {0x76543210, 0xfedcba98});
  const std::uint64_t bits = random_bits(0xfedcba9876543210, 0x0123456789abcdef);
  CHECK(bits == (words[0] | std::uint64_t{words[1]} << 32));
  CHECK(uniform(0xfedcba9876543210, 0x0123456789abcdef) == std::ldexp(static_cast<double>(bits >> 11), -53));
}

TEST_CASE("draws are uniform over positions and over seeds") {
  for (bool over_seeds : {false, true}) {
    constexpr int kDraws = 100'000, kBins = 50;
    int bins[kBins] = {};
    std::set<std::uint64_t> seen;
    for (std::uint64_t i = 0; i < kDraws; i++) {
      const double u = over_seeds ? uniform(i, 7) : uniform(7, i);
      REQUIRE((u >= 0 && u < 1));
      bins[static_cast<int>(u * kBins)]++;
      seen.insert(over_seeds ? random_bits(i, 7) : random_bits(7, i));
    }
    double chi_square = 0;
    for (int count : bins)
      chi_square += std::pow(count - double{kDraws} / kBins, 2) / (double{kDraws} / kBins);
    CHECK(chi_square < 95);  // 49 degrees of freedom: exceeded once in 10,000
    CHECK(seen.size() == kDraws);
  }
}
