// What a survey reads off a chunk of gradients. Compiled into each instruction set.
#pragma once
#include "../backend.h"
#include "../lanes.h"
#include "tile.h"

namespace gradstep {
namespace {

// Up to a tile of gradients from element `at` on, in the order of the states.
template <class T>
const T* gradients(const Tensor& t, int64_t at, int64_t n, T* tile) {
  char* const g = static_cast<char*>(t.g);
  const int bytes = bytes_of(t.g_storage);
  if (!t.layout) return fetch<T>({t.g_storage, g + at * bytes, 0, 1}, 1, n, tile).at;
  for (int64_t done = 0, run = 0; done < n; done += run) {
    const int64_t where = t.layout->gradient_at(at + done, run);
    run = least(run, n - done);
    const int64_t col = t.layout->axes[t.layout->dims - 1].g;
    const Rows<T> found = fetch<T>({t.g_storage, g + where * bytes, 0, col}, 1, run, tile + done);
    if (found.at != tile + done) __builtin_memcpy(tile + done, found.at, run * sizeof(T));
  }
  return tile;
}

template <class T>
void count(int64_t n, const T* g, Chunk& chunk) {
  std::int32_t zeros = 0, nans = 0, infs = 0;
#pragma omp simd reduction(+ : zeros, nans, infs)
  for (int64_t i = 0; i < n; ++i) {
    zeros += g[i] == 0;
    nans += g[i] != g[i];
    infs += __builtin_fabs(double(g[i])) == __builtin_inf();
  }
  chunk.zeros = zeros, chunk.nans = nans, chunk.infs = infs;
}

// The greatest magnitude; NaN if there is one. x - x is zero for numbers, NaN for all else.
template <class T>
double largest(int64_t n, const T* g) {
  T most = 0, odd = 0;
#pragma omp simd reduction(max : most) reduction(+ : odd)
  for (int64_t i = 0; i < n; ++i) {
    const T magnitude = T(__builtin_fabs(double(g[i])));
    most = magnitude > most ? magnitude : most;
    odd += g[i] - g[i];
  }
  if (odd == 0) return most;
  Chunk chunk;
  count(n, g, chunk);
  return chunk.nans ? __builtin_nan("") : __builtin_inf();
}

template <class T>
void survey(const Tensor& t, int64_t first, int64_t last, double scale, bool counted, Chunk* chunks) {
  alignas(64) T tile[tile_elements];
  for (int64_t c = first; c < last; ++c) {
    const int64_t at = c * tile_elements, n = least(tile_elements, t.n - at);
    const T* const g = gradients(t, at, n, tile);
    Chunk& chunk = chunks[c];
    chunk.sum_sq = lane_sum(n, [=](int64_t i) {
      const double x = double(g[i]) * scale;
      return x * x;
    });
    chunk.max_abs = largest(n, g);
    if (counted) count(n, g, chunk);
  }
}

}  // namespace
}  // namespace gradstep
