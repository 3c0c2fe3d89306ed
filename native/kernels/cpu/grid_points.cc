#include "kernels/cpu/grid_points.h"

#include "kernels/blocks.h"

namespace cria {
namespace {

/// `bits` of each element in an entry, as the index of its value.
template <int kElements, int kPoints, class Value>
constexpr GridPoints<kElements, kPoints> unpack(int grid, Value value) {
  constexpr int kBits = 16 / kElements;
  GridPoints<kElements, kPoints> out{};
  for (int i = 0; i < kPoints; i++)
    for (int j = 0; j < kElements; j++)
      out.points[j][i] = static_cast<float>(value(kIqGrids[grid + i] >> (kBits * j) & ((1 << kBits) - 1)));
  return out;
}

constexpr AllGridPoints unpack_all() {
  return {.iq2_xxs = unpack<8, 256>(kIq2XxsGrid, Iq2Values::at),
          .iq2_xs = unpack<8, 512>(kIq2XsGrid, Iq2Values::at),
          .iq2_s = unpack<8, 1024>(kIq2SGrid, Iq2Values::at),
          .iq3_xxs = unpack<4, 256>(kIq3XxsGrid, Iq3XxsValues::at),
          .iq3_s = unpack<4, 512>(kIq3SGrid, Iq3SValues::at),
          .iq1 = unpack<8, 2048>(kIq1Grid, [](int code) { return code - 1; })};
}

}  // namespace

constinit const AllGridPoints kGridPoints = unpack_all();

}  // namespace cria
