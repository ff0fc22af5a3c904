// Sums in a fixed order, so with the same bits on every instruction set and thread count.
#pragma once
#include <cstdint>

namespace gradstep {
namespace {

// term(0) + ... + term(n - 1): 16 lanes take every 16th term each, and are then added in pairs.
template <class Term>
double lane_sum(std::int64_t n, const Term& term) {
  constexpr int lanes = 16;
  double lane[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
#pragma omp simd
    for (int k = 0; k < lanes; ++k) lane[k] += term(i + k);
  }
  for (int k = 0; i + k < n; ++k) lane[k] += term(i + k);
  for (int width = lanes / 2; width > 0; width /= 2)
    for (int k = 0; k < width; ++k) lane[k] += lane[k + width];
  return lane[0];
}

}  // namespace
}  // namespace gradstep
