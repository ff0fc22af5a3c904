// Sums in a fixed order, so with the same bits on every instruction set and thread count.
#pragma once
#include <cstdint>
#ifdef __FMA__
#include <immintrin.h>
#endif

namespace gradstep {
namespace {

#if defined(__AVX512F__)
inline constexpr int vector_lanes = 8;
#elif defined(__AVX__)
inline constexpr int vector_lanes = 4;
#else
inline constexpr int vector_lanes = 2;
#endif
inline constexpr int lanes = 16, vectors = lanes / vector_lanes;
typedef double Lanes __attribute__((vector_size(vector_lanes * sizeof(double))));

// Adds the lanes in pairs, after those terms that were too few for all lanes.
template <class Term>
double sum_of_lanes(const Lanes (&sums)[vectors], std::int64_t i, std::int64_t n, const Term& term) {
  double lane[lanes];
  __builtin_memcpy(lane, sums, sizeof sums);
  for (int k = 0; i + k < n; ++k) lane[k] += term(i + k);
  Lanes part[vectors];
  __builtin_memcpy(part, lane, sizeof part);
#pragma GCC unroll 8
  for (int width = vectors / 2; width > 0; width /= 2)
#pragma GCC unroll 8
    for (int k = 0; k < width; ++k) part[k] += part[k + width];
  __builtin_memcpy(lane, part, sizeof part[0]);
#pragma GCC unroll 8
  for (int width = vector_lanes / 2; width > 0; width /= 2)
#pragma GCC unroll 8
    for (int k = 0; k < width; ++k) lane[k] += lane[k + width];
  return lane[0];
}

// term(0) + ... + term(n - 1): 16 lanes take every 16th term each, and are then added in pairs. They are
// written as vectors of the processor's own width, because a compiler leaves an array of them in memory.
template <class Term>
double lane_sum(std::int64_t n, const Term& term) {
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
  return sum_of_lanes(sums, i, n, term);
}

inline Lanes lanes_at(const double* from) {
  Lanes v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

inline Lanes lanes_at(const float* from) {
  typedef float Floats __attribute__((vector_size(vector_lanes * sizeof(float))));
  Floats v;
  __builtin_memcpy(&v, from, sizeof v);
  return __builtin_convertvector(v, Lanes);
}

// The product of two floats is exact in double, so that a fused sum rounds as a product and a sum do.
template <class T>
void add_product(Lanes& sum, Lanes a, Lanes b) {
#if defined(__AVX512F__) && defined(__FMA__)
  if constexpr (sizeof(T) == 4) return void(sum = _mm512_fmadd_pd(a, b, sum));
#elif defined(__FMA__)
  if constexpr (sizeof(T) == 4) return void(sum = _mm256_fmadd_pd(a, b, sum));
#endif
  sum += a * b;
}

// The dot products of K vectors on the left with R on the right, each the `lane_sum` of its terms. `next` are
// those on the right that will be wanted then: memory delivers while this computes.
template <int K, int R, class T>
void lane_dots(std::int64_t n, const T* const (&left)[K], const T* const (&right)[R],
               const T* const (&next)[R], double (&out)[K][R]) {
  Lanes sums[K][R][vectors] = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (int r = 0; r < R; ++r)
      for (std::size_t line = 0; line < lanes * sizeof(T); line += 64)
        __builtin_prefetch(reinterpret_cast<const char*>(next[r] + i) + line, 0, 3);
#pragma GCC unroll 8
    for (int j = 0; j < vectors; ++j) {
      const std::int64_t at = i + j * vector_lanes;
#pragma GCC unroll 4
      for (int k = 0; k < K; ++k) {
        const Lanes l = lanes_at(left[k] + at);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) add_product<T>(sums[k][r][j], l, lanes_at(right[r] + at));
      }
    }
  }
  for (int k = 0; k < K; ++k)
    for (int r = 0; r < R; ++r)
      out[k][r] = sum_of_lanes(sums[k][r], i, n,
                               [&](std::int64_t at) { return double(left[k][at]) * double(right[r][at]); });
}

}  // namespace
}  // namespace gradstep
