// Sums in a fixed order, so with the same bits on every instruction set and thread count.
#pragma once
#include <cstdint>

namespace gradstep {
namespace {

#if defined(__AVX512F__)
inline constexpr int vector_lanes = 8;
#elif defined(__AVX__)
inline constexpr int vector_lanes = 4;
#else
inline constexpr int vector_lanes = 2;
#endif
typedef double Lanes __attribute__((vector_size(vector_lanes * sizeof(double))));

// term(0) + ... + term(n - 1): 16 lanes take every 16th term each, and are then added in pairs. They are
// written as vectors of the processor's own width, because a compiler leaves an array of them in memory.
template <class Term>
double lane_sum(std::int64_t n, const Term& term) {
  constexpr int lanes = 16, vectors = lanes / vector_lanes;
  Lanes sums[vectors] = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
#pragma GCC unroll 8
    for (int j = 0; j < vectors; ++j) {
      Lanes terms;
#pragma GCC unroll 8
      for (int k = 0; k < vector_lanes; ++k) terms[k] = term(i + j * vector_lanes + k);
      sums[j] += terms;
    }
  }
  double lane[lanes];
  for (int k = 0; k < lanes; ++k) lane[k] = sums[k / vector_lanes][k % vector_lanes];
  for (int k = 0; i + k < n; ++k) lane[k] += term(i + k);
  for (int width = lanes / 2; width > 0; width /= 2)
    for (int k = 0; k < width; ++k) lane[k] += lane[k + width];
  return lane[0];
}

}  // namespace
}  // namespace gradstep
