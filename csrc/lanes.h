// Vectors of doubles, and sums in a fixed order, so with the same bits on every instruction set and thread
// count.
#pragma once
#include <cstdint>
#ifdef __AVX__
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

// Of streams that are read together, to the L1 cache, what is wanted by the time that memory has answered: 8
// KiB further on, in all. The processor's own prefetching begins anew with each stretch, this does not.
template <int streams, class T>
void fetch_ahead(const T* const (&stream)[streams], std::int64_t at, std::int64_t n) {
  constexpr std::int64_t ahead = 8192 / streams / std::int64_t(sizeof(T));
  for (const T* from : stream)
    for (std::int64_t i = 0; i < n; i += 64 / std::int64_t(sizeof(T)))
      __builtin_prefetch(from + at + ahead + i);
}

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

// gcc 12 makes two conversions and a detour through the stack of __builtin_convertvector, and warns of
// what _mm512_cvtps_pd leaves undefined.
inline Lanes lanes_at(const float* from) {
#if defined(__AVX512F__)
  return _mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(from));
#elif defined(__AVX__)
  return _mm256_cvtps_pd(_mm_loadu_ps(from));
#else
  Lanes v;
  for (int k = 0; k < vector_lanes; ++k) v[k] = from[k];
  return v;
#endif
}

#ifdef __AVX2__
// From bytes gcc goes by vectors of shorts and ints, whose halves it takes apart and joins again.
inline Lanes lanes_at(const std::uint8_t* from) {
#ifdef __AVX512F__
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return _mm512_maskz_cvtepi32_pd(0xff, _mm256_cvtepu8_epi32(bytes));
#else
  int bytes;
  __builtin_memcpy(&bytes, from, sizeof bytes);
  return _mm256_cvtepi32_pd(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(bytes)));
#endif
}

inline void put_lanes(Lanes v, float* to) {
#ifdef __AVX512F__
  _mm256_storeu_ps(to, _mm512_maskz_cvtpd_ps(0xff, v));
#else
  _mm_storeu_ps(to, _mm256_cvtpd_ps(v));
#endif
}
#endif

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

// Adds the squares of x[0] to x[n - 1], n a multiple of 16.
template <bool scaled, class T>
void add_squares(Lanes (&sums)[vectors], const T* x, std::int64_t n, double scale) {
  Lanes own[vectors];  // in registers
  __builtin_memcpy(own, sums, sizeof own);
  for (std::int64_t i = 0; i < n; i += lanes)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; ++j) {
      const Lanes at = lanes_at(x + i + j * vector_lanes);
      if constexpr (scaled)
        own[j] += (at * scale) * (at * scale);
      else
        add_product<T>(own[j], at, at);
    }
  __builtin_memcpy(sums, own, sizeof own);
}

// Of each of K arrays the `lane_sum` of its elements' squares, in units of 1 / scale. A few lines of each are
// read in turn: memory delivers several streams faster than one.
template <bool scaled, int K, class T>
void lane_squares(std::int64_t n, const T* const (&x)[K], double scale, double (&out)[K]) {
  constexpr std::int64_t turn = 4 * lanes;
  const std::int64_t whole = n / lanes * lanes;
  Lanes sums[K][vectors] = {};
  for (std::int64_t i = 0; i < whole; i += turn)
    for (int k = 0; k < K; ++k)
      add_squares<scaled>(sums[k], x[k] + i, turn < whole - i ? turn : whole - i, scale);
  for (int k = 0; k < K; ++k)
    out[k] = sum_of_lanes(sums[k], whole, n, [&](std::int64_t i) {
      const double at = scaled ? double(x[k][i]) * scale : double(x[k][i]);
      return at * at;
    });
}

// The dot products of K vectors on the left with R on the right, each the `lane_sum` of its terms.
template <int K, int R, class T>
void lane_dots(std::int64_t n, const T* const (&left)[K], const T* const (&right)[R], double (&out)[K][R]) {
  Lanes sums[K][R][vectors] = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    fetch_ahead(right, i, lanes);
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
