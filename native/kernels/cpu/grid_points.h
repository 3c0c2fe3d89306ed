// The grids of the i-quants (iq_grids.h) as floats, for the quantizers' search: each element of all points of
// a grid together, so that sixteen points are loaded at once. One copy serves every level.
#pragma once

#include "kernels/iq_grids.h"

namespace cria {

/// points[j][i]: element j of point i, in the grid's own units (magnitudes, or IQ1's -1, 0 and 1).
template <int kElements, int kPoints>
struct GridPoints {
  float points[kElements][kPoints];
};

struct AllGridPoints {
  GridPoints<8, 256> iq2_xxs;
  GridPoints<8, 512> iq2_xs;
  GridPoints<8, 1024> iq2_s;
  GridPoints<4, 256> iq3_xxs;
  GridPoints<4, 512> iq3_s;
  GridPoints<8, 2048> iq1;
};
extern const AllGridPoints kGridPoints;

}  // namespace cria
