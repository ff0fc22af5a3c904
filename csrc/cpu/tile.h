// Tiles in the L1 cache: where elements of any number format and stride become a dense row of float or
// double, and go back. Compiled into each instruction set, so everything is in an anonymous namespace.
#pragma once
#ifdef __F16C__
#include <immintrin.h>
#endif

#include "../layout.h"
#include "../storage.h"

namespace gradstep {
namespace {

using std::int64_t;
using std::uint16_t;

// The first tile of an array may be longer by less than a line, so that all others begin on one.
inline constexpr int64_t tile_capacity = tile_elements + line_elements;

constexpr int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// Rows of a rectangle, each dense.
template <class T>
struct Rows {
  T* at;
  int64_t row;
};

// A rectangle of an array; strides are counted in elements.
struct Place {
  Storage storage;
  char* at;
  int64_t row, col;
};

template <class T>
bool native(Storage storage) {
  return storage == (sizeof(T) == 8 ? Storage::f64 : Storage::f32);
}

// Elements that come before the next cache line. Vectors that straddle two lines halve AVX-512's speed.
template <class T>
int64_t before_line(const void* at) {
  return -(reinterpret_cast<std::uintptr_t>(at) / sizeof(T)) % (64 / sizeof(T));
}

template <class T>
bool lies_ready(const Place& place) {
  return place.col == 1 && native<T>(place.storage);
}

inline void widen_f16(int64_t n, const uint16_t* from, float* to) {
  int64_t i = 0;
#ifdef __F16C__
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
#endif
#pragma omp simd
  for (int64_t k = i; k < n; ++k) to[k] = from_f16(from[k]);
}

inline void narrow_f16(int64_t n, const float* from, uint16_t* to) {
  int64_t i = 0;
#ifdef __F16C__
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
#endif
#pragma omp simd
  for (int64_t k = i; k < n; ++k) to[k] = to_f16(from[k]);
}

inline void widen_bf16(int64_t n, const uint16_t* from, float* to) {
#pragma omp simd
  for (int64_t k = 0; k < n; ++k) to[k] = from_bf16(from[k]);
}

inline void narrow_bf16(int64_t n, const float* from, uint16_t* to) {
#pragma omp simd
  for (int64_t k = 0; k < n; ++k) to[k] = to_bf16(from[k]);
}

inline void widen(Storage storage, int64_t n, const uint16_t* from, float* to) {
  storage == Storage::f16 ? widen_f16(n, from, to) : widen_bf16(n, from, to);
}

inline void narrow(Storage storage, int64_t n, const float* from, uint16_t* to) {
  storage == Storage::f16 ? narrow_f16(n, from, to) : narrow_bf16(n, from, to);
}

// Calls `copy` with the offsets in a dense tile and in memory, along the axis on which memory lies closer.
template <class Copy>
void visit(int64_t rows, int64_t cols, int64_t row, int64_t col, const Copy& copy) {
  if (row * row < col * col) {
    for (int64_t c = 0; c < cols; ++c)
      for (int64_t r = 0; r < rows; ++r) copy(r * cols + c, r * row + c * col);
  } else {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) copy(r * cols + c, r * row + c * col);
  }
}

template <class Unit>
void gather(const Place& place, int64_t rows, int64_t cols, Unit* tile) {
  const Unit* const home = reinterpret_cast<const Unit*>(place.at);
  visit(rows, cols, place.row, place.col, [&](int64_t k, int64_t at) { tile[k] = home[at]; });
}

template <class Unit>
void scatter(const Place& place, int64_t rows, int64_t cols, const Unit* tile) {
  Unit* const home = reinterpret_cast<Unit*>(place.at);
  visit(rows, cols, place.row, place.col, [&](int64_t k, int64_t at) { home[at] = tile[k]; });
}

// The rectangle as rows of T: where it lies if it is such already, else in the tile.
template <class T>
Rows<T> fetch(const Place& place, int64_t rows, int64_t cols, T* tile) {
  if (lies_ready<T>(place)) return {reinterpret_cast<T*>(place.at), place.row};
  if constexpr (sizeof(T) == 4) {
    if (is_short(place.storage)) {
      uint16_t raw[tile_capacity];
      const auto* const home = reinterpret_cast<const uint16_t*>(place.at);
      if (place.col != 1) {
        gather(place, rows, cols, raw);
        widen(place.storage, rows * cols, raw, tile);
      } else {
        for (int64_t r = 0; r < rows; ++r) widen(place.storage, cols, home + r * place.row, tile + r * cols);
      }
      return {tile, cols};
    }
  }
  gather(place, rows, cols, tile);
  return {tile, cols};
}

// Writes rows of T to where they belong, rounded if need be.
template <class T>
void put(const Place& place, int64_t rows, int64_t cols, Rows<T> from) {
  if (lies_ready<T>(place)) return;
  if constexpr (sizeof(T) == 4) {
    if (is_short(place.storage)) {
      uint16_t raw[tile_capacity];
      const bool dense = place.col == 1;
      uint16_t* const home = dense ? reinterpret_cast<uint16_t*>(place.at) : raw;
      const int64_t row = dense ? place.row : cols;
      for (int64_t r = 0; r < rows; ++r) narrow(place.storage, cols, from.at + r * from.row, home + r * row);
      if (!dense) scatter(place, rows, cols, raw);
      return;
    }
  }
  scatter(place, rows, cols, from.at);
}

template <class Unit>
void clear_units(const Place& place, int64_t rows, int64_t cols) {
  Unit* const home = reinterpret_cast<Unit*>(place.at);
  visit(rows, cols, place.row, place.col, [&](int64_t, int64_t at) { home[at] = 0; });
}

// Zero is the same bits in every format.
inline void clear(const Place& place, int64_t rows, int64_t cols) {
  const int bytes = bytes_of(place.storage);
  if (place.col == 1)
    for (int64_t r = 0; r < rows; ++r) __builtin_memset(place.at + r * place.row * bytes, 0, cols * bytes);
  else if (bytes == 2)
    clear_units<uint16_t>(place, rows, cols);
  else if (bytes == 4)
    clear_units<std::uint32_t>(place, rows, cols);
  else
    clear_units<std::uint64_t>(place, rows, cols);
}

}  // namespace
}  // namespace gradstep
