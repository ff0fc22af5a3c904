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

// No squares of floats leave the range of doubles: their sum is finite if, and only if, every one of them is.
bool all_finite(int64_t, const float*, double sum_sq) { return sum_sq < __builtin_inf(); }

// Every exponent of ones is NaN or infinity. Bits are combined faster than numbers.
bool all_finite(int64_t n, const double* g, double) {
  const std::uint64_t exponent = bits(__builtin_inf());
  std::uint64_t odd = 0;
#pragma omp simd reduction(| : odd)
  for (int64_t i = 0; i < n; ++i) odd |= std::uint64_t((bits(g[i]) & exponent) == exponent);
  return odd == 0;
}

template <class T>
void count(int64_t n, const T* g, Chunk& chunk) {
  std::int32_t zeros = 0, nans = 0, infs = 0;
  T most = 0;
#pragma omp simd reduction(+ : zeros, nans, infs) reduction(max : most)
  for (int64_t i = 0; i < n; ++i) {
    const T magnitude = T(__builtin_fabs(double(g[i])));
    zeros += g[i] == 0;
    nans += g[i] != g[i];
    infs += magnitude == T(__builtin_inf());
    most = magnitude > most ? magnitude : most;
  }
  chunk.zeros = zeros, chunk.nans = nans, chunk.infs = infs;
  chunk.max_abs = nans ? __builtin_nan("") : double(most);
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
    chunk.finite = all_finite(n, g, chunk.sum_sq);
    if (counted || !chunk.finite) count(n, g, chunk);
  }
}

}  // namespace
}  // namespace gradstep
