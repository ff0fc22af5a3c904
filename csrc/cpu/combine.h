// Tiles of vectors: linear combinations, dot products, greatest magnitudes. Compiled into each instruction
// set.
#pragma once
#include "../lanes.h"
#include "../vectors.h"
#include "tile.h"

namespace gradstep {
namespace {

// How much of a vector is read at a stretch, before others: sums of as much stay in the L1 cache meanwhile.
template <class T>
inline constexpr int64_t stretch_elements = 16384 / sizeof(T);

// Adds K terms to what is in `before`, or begins with the first of them where that is null.
template <int K, class T>
void add_terms(const Term* terms, int64_t at, int64_t n, const T* before, T* out) {
  constexpr int64_t turn = 256 / sizeof(T);
  const T* v[K];
  T factor[K];
  for (int k = 0; k < K; ++k)
    v[k] = static_cast<const T*>(terms[k].vector) + at, factor[k] = T(terms[k].factor);
  const auto rest = [&](T sum, int from, int64_t i) {
    for (int k = from; k < K; ++k) sum += factor[k] * v[k][i];
    return sum;
  };
  const auto add = [&](int64_t first, int64_t count) {
    if (before) {
#pragma omp simd
      for (int64_t i = first; i < first + count; ++i) out[i] = rest(before[i], 0, i);
    } else {
#pragma omp simd
      for (int64_t i = first; i < first + count; ++i) out[i] = rest(factor[0] * v[0][i], 1, i);
    }
  };
  int64_t first = 0;
  for (; first + turn <= n; first += turn) {  // a count that the compiler knows
    fetch_ahead(v, first, turn);
    add(first, turn);
  }
  add(first, n - first);
}

// Four terms at a time, so that sums on the way are seldom written, and that to the L1 cache.
template <class T>
void combine(const Combination& combination, int64_t at, int64_t n) {
  alignas(64) T sums[stretch_elements<T>];
  const auto all = combination.terms;
  const auto count = int64_t(all.size());
  const T* before = nullptr;
  for (int64_t first = 0; first < count; first += 4) {
    const int64_t left = count - first;
    const auto add = left == 1   ? add_terms<1, T>
                     : left == 2 ? add_terms<2, T>
                     : left == 3 ? add_terms<3, T>
                                 : add_terms<4, T>;
    add(&all[first], at, n, before, left > 4 ? sums : static_cast<T*>(combination.out) + at);
    before = sums;
  }
}

// How many vectors on the right are read at once, with K on the left: as many as registers hold the sums of,
// but for a quarter of them, four at most and one at least.
template <int K>
inline constexpr int right_together = int(most(1, least(4, (vector_lanes == 8 ? 24 : 12) / (K * vectors))));

template <int K, int R, class T>
void dot_rows(const Products& products, int64_t r, int64_t at, int64_t n, double* sums, int64_t stride) {
  const auto count = int64_t(products.right.size());
  const int64_t end = at + n;
  for (; at < end; at += tile_elements, ++sums) {
    const T *left[K], *right[R];
    for (int k = 0; k < K; ++k) left[k] = static_cast<const T*>(products.left[k]) + at;
    for (int j = 0; j < R; ++j) right[j] = static_cast<const T*>(products.right[r + j]) + at;
    double found[K][R];
    lane_dots(least(tile_elements, end - at), left, right, found);
    for (int k = 0; k < K; ++k)
      for (int j = 0; j < R; ++j) sums[(k * count + r + j) * stride] = found[k][j];
  }
}

// `sums`: of each product a row, `stride` apart, with one of each tile.
template <int K, class T>
void dot_stretch(const Products& products, int64_t at, int64_t n, double* sums, int64_t stride) {
  const auto count = int64_t(products.right.size());
  int64_t r = 0;
  for (; r + right_together<K> <= count; r += right_together<K>)
    dot_rows<K, right_together<K>, T>(products, r, at, n, sums, stride);
  for (; r < count; ++r) dot_rows<K, 1, T>(products, r, at, n, sums, stride);
}

template <class T>
double largest_of(const T* v, int64_t n) {
  T most = 0;
  int64_t nans = 0;
#pragma omp simd reduction(+ : nans) reduction(max : most)
  for (int64_t i = 0; i < n; ++i) {
    const T magnitude = v[i] < 0 ? -v[i] : v[i];
    nans += v[i] != v[i];
    most = magnitude > most ? magnitude : most;
  }
  return nans ? __builtin_nan("") : double(most);
}

template <class T>
void pass_tiles(const Pass& pass, int64_t first, int64_t last, int64_t tiles, double* sums) {
  constexpr int64_t step = stretch_elements<T> / tile_elements;
  for (int64_t tile = first; tile < last; tile += step) {
    const int64_t at = tile * tile_elements;
    const int64_t n = least(least(step, last - tile) * tile_elements, pass.n - at);
    for (const Combination& c : pass.combinations) combine<T>(c, at, n);
    double* to = sums + tile;
    for (const Products& p : pass.products) {
      const auto dots = p.left.size() == 1   ? dot_stretch<1, T>
                        : p.left.size() == 2 ? dot_stretch<2, T>
                                             : dot_stretch<3, T>;
      dots(p, at, n, to, tiles);
      to += int64_t(p.left.size() * p.right.size()) * tiles;
    }
    if (!pass.largest) continue;
    const T* const v = static_cast<const T*>(pass.largest) + at;
    for (int64_t i = 0; i < n; i += tile_elements) *to++ = largest_of(v + i, least(tile_elements, n - i));
  }
}

}  // namespace
}  // namespace gradstep
