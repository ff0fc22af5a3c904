// What a survey reads off a chunk of gradients. Compiled into each instruction set.
#pragma once
#include "../backend.h"
#include "../lanes.h"
#include "tile.h"

namespace gradstep {
namespace {

// Up to a tile of gradients from element `at` on, in the order of the states. (Inlined where n is constant,
// gcc 12 warns of a loop's end that it never enters.)
template <class T>
[[gnu::noinline]] const T* gradients(const Tensor& t, int64_t at, int64_t n, T* tile) {
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

// K chunks of n elements, `apart` from each other.
template <int K, class T>
void survey_chunks(const Tensor& t, int64_t c, int64_t apart, int64_t n, double scale, bool counted,
                   Chunk* chunks) {
  alignas(64) T tiles[K][tile_elements];
  const T* g[K];
  double sum_sq[K];
  for (int k = 0; k < K; ++k) g[k] = gradients(t, (c + k * apart) * tile_elements, n, tiles[k]);
  scale == 1 ? lane_squares<false>(n, g, scale, sum_sq) : lane_squares<true>(n, g, scale, sum_sq);
  for (int k = 0; k < K; ++k) {
    Chunk& chunk = chunks[c + k * apart];
    chunk.sum_sq = sum_sq[k];
    chunk.finite = all_finite(n, g[k], sum_sq[k]);
    if (counted || !chunk.finite) count(n, g[k], chunk);
  }
}

// A run is read as four streams, far from each other; what is left of it, the array's last chunk too, as one.
template <class T>
void survey(const Tensor& t, int64_t first, int64_t last, double scale, bool counted, Chunk* chunks) {
  constexpr int streams = 4;
  const int64_t apart = (last - first - 1) / streams;
  for (int64_t c = first; c < first + apart; ++c)
    survey_chunks<streams, T>(t, c, apart, tile_elements, scale, counted, chunks);
  for (int64_t c = first + apart * streams; c < last; ++c)
    survey_chunks<1, T>(t, c, 0, least(tile_elements, t.n - c * tile_elements), scale, counted, chunks);
}

}  // namespace
}  // namespace gradstep
