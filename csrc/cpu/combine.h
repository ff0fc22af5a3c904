// Tiles of vectors: linear combinations, dot products, greatest magnitudes. Compiled into each instruction
// set.
#pragma once
#include "../lanes.h"
#include "../vectors.h"
#include "tile.h"

namespace gradstep {
namespace {

// How many vectors are fetched ahead of a combination's sums: where caches hold them all, none, since that
// takes longer than it saves.
template <class T>
int fetched_ahead(const Pass& pass) {
  constexpr int64_t cached = 1 << 24;  // bytes
  return pass.n * pass.streams() * int64_t(sizeof(T)) > cached ? 4 : 0;
}

// Adds K terms to what is in `before`, or begins with the first of them where that is null. Of the `next`,
// which come then, so many are fetched `ahead`.
template <int K, class T>
void add_terms(const Term* terms, int64_t at, int64_t n, const T* const (&next)[4], int ahead,
               const T* before, T* out) {
  constexpr int64_t turn = 256 / sizeof(T);
  const T* v[K];
  T factor[K];
  for (int k = 0; k < K; ++k)
    v[k] = static_cast<const T*>(terms[k].vector) + at, factor[k] = T(terms[k].factor);
  const auto rest = [&](T sum, int from, int64_t i) {
    for (int k = from; k < K; ++k) sum += factor[k] * v[k][i];
    return sum;
  };
  for (int64_t first = 0; first < n; first += turn) {
    const int64_t last = least(first + turn, n);
    for (int k = 0; k < ahead; ++k) fetch_ahead(next[k] + first, (last - first) * sizeof(T));
    if (before) {
#pragma omp simd
      for (int64_t i = first; i < last; ++i) out[i] = rest(before[i], 0, i);
    } else {
#pragma omp simd
      for (int64_t i = first; i < last; ++i) out[i] = rest(factor[0] * v[0][i], 1, i);
    }
  }
}

// Four terms at a time, so that sums on the way are seldom written, and that to a tile.
template <class T>
void combine(const Combination& combination, int64_t at, int64_t n, int ahead) {
  alignas(64) T sums[tile_elements];
  const auto all = combination.terms;
  const auto count = int64_t(all.size());
  const auto stream = [&](int64_t k) {
    return static_cast<const T*>(k < count ? all[k].vector : combination.out);
  };
  const T* before = nullptr;
  for (int64_t first = 0; first < count; first += 4) {
    const int64_t left = count - first;
    const T* next[4];
    for (int64_t k = 0; k < 4; ++k) next[k] = left > 4 ? stream(first + 4 + k) + at : stream(k) + at + n;
    const auto add = left == 1   ? add_terms<1, T>
                     : left == 2 ? add_terms<2, T>
                     : left == 3 ? add_terms<3, T>
                                 : add_terms<4, T>;
    add(&all[first], at, n, next, ahead, before, left > 4 ? sums : static_cast<T*>(combination.out) + at);
    before = sums;
  }
}

// How many vectors on the right are read at once: as many as registers hold the sums of, and the L1 cache
// holds tiles of beside those on the left and those that come next.
template <class T>
inline constexpr int right_together = vector_lanes == 8 ? 16 / int(sizeof(T)) : 1;

template <int K, int R, class T>
void dot_rows(const T* const (&left)[K], const Products& products, int64_t r, int64_t at, int64_t n,
              double* sums, int64_t stride) {
  const auto count = int64_t(products.right.size());
  const auto row = [&](int64_t i) { return static_cast<const T*>(products.right[i]) + at; };
  const T *right[R], *next[R];
  for (int k = 0; k < R; ++k)
    right[k] = row(r + k), next[k] = r + R + k < count ? row(r + R + k) : row(r + R + k - count) + n;
  double found[K][R];
  lane_dots(n, left, right, next, found);
  for (int k = 0; k < K; ++k)
    for (int j = 0; j < R; ++j) sums[(k * count + r + j) * stride] = found[k][j];
}

// `sums`: of each product a row, `stride` apart.
template <int K, class T>
void dot_tile(const Products& products, int64_t at, int64_t n, double* sums, int64_t stride) {
  const T* left[K];
  for (int k = 0; k < K; ++k) left[k] = static_cast<const T*>(products.left[k]) + at;
  const auto count = int64_t(products.right.size());
  int64_t r = 0;
  for (; r + right_together<T> <= count; r += right_together<T>)
    dot_rows<K, right_together<T>>(left, products, r, at, n, sums, stride);
  for (; r < count; ++r) dot_rows<K, 1>(left, products, r, at, n, sums, stride);
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
  const int ahead = fetched_ahead<T>(pass);
  for (int64_t tile = first; tile < last; ++tile) {
    const int64_t at = tile * tile_elements, n = least(tile_elements, pass.n - at);
    for (const Combination& c : pass.combinations) combine<T>(c, at, n, ahead);
    double* to = sums + tile;
    for (const Products& p : pass.products) {
      const auto dots = p.left.size() == 1   ? dot_tile<1, T>
                        : p.left.size() == 2 ? dot_tile<2, T>
                                             : dot_tile<3, T>;
      dots(p, at, n, to, tiles);
      to += int64_t(p.left.size() * p.right.size()) * tiles;
    }
    if (pass.largest) *to = largest_of(static_cast<const T*>(pass.largest) + at, n);
  }
}

}  // namespace
}  // namespace gradstep
