// Rows of data sets: gathered, converted, augmented; and the moments of columns. Compiled into each
// instruction set.
#pragma once
#include <tuple>

#include "../lanes.h"
#include "../rows.h"
#include "tile.h"

namespace gradstep {
namespace {

// Elements in the order of `Number`, as they lie in memory.
using Elements = std::tuple<float, double, uint16_t, uint16_t, std::uint8_t, std::int8_t, uint16_t,
                            std::int16_t, std::uint32_t, std::int32_t, std::uint64_t, int64_t>;

template <Number number>
auto value_at(const char* at) {
  std::tuple_element_t<std::size_t(number), Elements> x;
  __builtin_memcpy(&x, at, sizeof x);
  if constexpr (number == Number::bf16)
    return from_bf16(x);
  else if constexpr (number == Number::f16)
    return from_f16(x);
  else
    return x;
}

// What columns are standardised by, from one of them on; or nulls.
struct Columns {
  const void *shift, *shift_low, *factor;
};

inline void standardise_bytes(int64_t n, const std::uint8_t* from, const double* shift, const double* factor,
                              float* to) {
  int64_t i = 0;
#ifdef __AVX2__
  for (; i + vector_lanes <= n; i += vector_lanes)
    put_lanes((lanes_at(from + i) - lanes_at(shift + i)) * lanes_at(factor + i), to + i);
#endif
#pragma omp simd
  for (int64_t k = i; k < n; ++k) to[k] = float(standardised(double(from[k]), shift[k], 0.0, factor[k]));
}

// Elements `step` bytes apart, to a dense run.
using Convert = void (*)(int64_t n, const char* from, int64_t step, const Columns& columns, int64_t column,
                         void* to);

template <Number number, class T>
void convert(int64_t n, const char* from, int64_t step, const Columns& columns, int64_t column, void* out) {
  T* const to = static_cast<T*>(out);
  const auto run = [&](int64_t apart) {
    if (!columns.shift) {
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) to[i] = T(value_at<number>(from + i * apart));
      return;
    }
    using A = Arithmetic<decltype(value_at<number>(from)), T>;
    const auto of = [column](const void* all) { return static_cast<const A*>(all) + column; };
    const A *const shift = of(columns.shift), *const low = of(columns.shift_low),
                   *const factor = of(columns.factor);
    if constexpr (number == Number::u8 && sizeof(T) == 4)
      if (apart == 1)
        return standardise_bytes(n, reinterpret_cast<const std::uint8_t*>(from), shift, factor, to);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i)
      to[i] = T(standardised(A(value_at<number>(from + i * apart)), shift[i], low[i], factor[i]));
  };
  constexpr int64_t dense = sizeof(std::tuple_element_t<std::size_t(number), Elements>);
  step == dense ? run(dense) : run(step);
}

template <class T, class Index>
struct Conversions;
template <class T, std::size_t... number>
struct Conversions<T, std::index_sequence<number...>> {
  static constexpr Convert table[] = {convert<Number(number), T>...};
};
template <class T>
inline constexpr auto conversions = Conversions<T, std::make_index_sequence<numbers>>::table;

// Calls `visit` with the runs that columns [first, last) of a row are: where, how many bytes apart, how many.
template <class Visit>
void visit_runs(const Source& source, const char* row, int64_t first, int64_t last, const Visit& visit) {
  for (int64_t at = first, left = 0; at < last; at += left) {
    const int64_t where = source.offset(at, left);
    left = least(left, last - at);
    visit(at, row + where, source.step(), left);
  }
}

void copy_run(int64_t n, const char* from, int64_t step, int64_t itemsize, char* to) {
  if (step == itemsize) return void(__builtin_memcpy(to, from, n * itemsize));
  for (int64_t i = 0; i < n; ++i) __builtin_memcpy(to + i * itemsize, from + i * step, itemsize);
}

// Columns [first, last) of a row.
void take(const Gather& g, const char* row, int64_t first, int64_t last, char* to) {
  visit_runs(g.source, row, first, last, [&](int64_t at, const char* from, int64_t step, int64_t n) {
    char* const there = to + (at - first) * g.out_bytes();
    if (g.result == Result::copy) return copy_run(n, from, step, g.source.itemsize, there);
    const Convert convert = g.result == Result::f64 ? conversions<double>[int(g.source.number)]
                                                    : conversions<float>[int(g.source.number)];
    convert(n, from, step, {g.shift, g.shift_low, g.factor}, at, there);
  });
}

void fill(const Gather& g, char* to, int64_t elements) {
  const int64_t bytes = g.out_bytes();
  for (int64_t i = 0; i < elements; ++i) __builtin_memcpy(to + i * bytes, g.images.fill, bytes);
}

void mirror(char* line, int64_t pixels, int64_t pixel_bytes) {
  for (char *a = line, *b = line + (pixels - 1) * pixel_bytes; a < b; a += pixel_bytes, b -= pixel_bytes)
    for (int64_t i = 0; i < pixel_bytes; ++i) {
      const char byte = a[i];
      a[i] = b[i], b[i] = byte;
    }
}

template <class T>
void add_noise(const Gather& g, std::uint64_t position, T* to) {
  const int64_t n = g.images.out_columns();
  constexpr int blocks = 64;
  for (int64_t first = 0; first < n; first += 4 * blocks) {
    alignas(64) double noise[4][blocks];
#pragma omp simd
    for (int b = 0; b < blocks; ++b) {
      const Words words = g.draws.at(Use::noise, position, std::uint32_t(first / 4 + b));
      const Pair one = normals(words.w[0], words.w[1]), two = normals(words.w[2], words.w[3]);
      noise[0][b] = one.first, noise[1][b] = one.second, noise[2][b] = two.first, noise[3][b] = two.second;
    }
    const int64_t here = least(4 * blocks, n - first);
    for (int64_t i = 0; i < here; ++i)
      to[first + i] = T(double(to[first + i]) + g.images.noise * noise[i % 4][i / 4]);
  }
}

// A crop of an image: line by line what lies within it, and the filling beside that.
void take_crop(const Gather& g, const char* row, std::uint64_t position, char* to) {
  const Images& m = g.images;
  const Crop crop = crop_of(m, g.draws, position);
  const int64_t pixel = m.channels * g.out_bytes(), line = m.out_width * pixel;
  const int64_t left = least(most(-crop.x, 0), m.out_width),
                right = most(least(m.width - crop.x, m.out_width), left);
  for (int64_t y = 0; y < m.out_height; ++y, to += line) {
    const int64_t source_y = crop.y + y;
    const bool outside = source_y < 0 || source_y >= m.height;
    const int64_t from = outside ? m.out_width : left, until = outside ? m.out_width : right;
    fill(g, to, from * m.channels);
    const int64_t at = source_y * m.width + crop.x;
    if (from < until) take(g, row, (at + from) * m.channels, (at + until) * m.channels, to + from * pixel);
    fill(g, to + until * pixel, (m.out_width - until) * m.channels);
    if (crop.mirrored) mirror(to, m.out_width, pixel);
  }
}

inline constexpr int together = 64;

// Each of the numbers as a step of its walk leaves it: a round for all of them at once.
void walk(const Permutation& p, std::uint64_t (&x)[together]) {
  std::uint32_t left[together], right[together];
  for (int i = 0; i < together; ++i)
    left[i] = std::uint32_t(x[i] >> p.low()), right[i] = std::uint32_t(x[i]) & p.low_bits();
  for (int k = 0; k < Permutation::rounds; k += 2) {
#pragma omp simd
    for (int i = 0; i < together; ++i) left[i] ^= p.half(right[i], k) & p.high_bits();
#pragma omp simd
    for (int i = 0; i < together; ++i) right[i] ^= p.half(left[i], k + 1) & p.low_bits();
  }
  for (int i = 0; i < together; ++i) x[i] = std::uint64_t(left[i]) << p.low() | right[i];
}

// Where a walk has ended the next one begins.
void permute(const Permutation& p, std::uint64_t first, int64_t count, int64_t* to) {
  std::uint64_t x[together] = {};
  int64_t place[together];
  for (int64_t next = 0, walking = 0, on = 0; next < count || walking; walking = on) {
    for (; walking < together && next < count; ++next) place[walking] = next, x[walking++] = first + next;
    walk(p, x);
    on = 0;
    for (int64_t i = 0; i < walking; ++i) {
      if (x[i] < p.n())
        to[place[i]] = int64_t(x[i]);
      else
        place[on] = place[i], x[on++] = x[i];
    }
  }
}

// Which rows come at `count` positions from `position` on.
void select(const Selection& selection, std::uint64_t position, int64_t count, int64_t* indices) {
  if (selection.order == Order::shuffled) return permute(selection.permutation, position, count, indices);
  for (int64_t i = 0; i < count; ++i) indices[i] = selection(position + i);
}

// Columns [first, last) of a row that comes soon, to the L2 cache: it can wait for more lines at a time than
// L1.
void prefetch(const Source& source, const char* row, int64_t first, int64_t last) {
  if (source.step() != source.itemsize) return;
  for (int64_t byte = first * source.itemsize; byte < last * source.itemsize; byte += 64)
    __builtin_prefetch(row + byte, 0, 2);
}

// A whole row, piece by piece, and `soon`, if not null, likewise.
void take_row(const Gather& g, const char* row, const char* soon, char* to) {
  const int64_t piece = most(1024 / g.source.itemsize, 1), columns = g.source.columns;
  for (int64_t first = 0; first < columns; first += piece) {
    const int64_t last = least(first + piece, columns);
    if (soon) prefetch(g.source, soon, first, last);
    take(g, row, first, last, to + first * g.out_bytes());
  }
}

void add_noise(const Gather& g, std::uint64_t position, char* to) {
  g.result == Result::f64 ? add_noise(g, position, reinterpret_cast<double*>(to))
                          : add_noise(g, position, reinterpret_cast<float*>(to));
}

// Rows [first, last) of a batch.
void gather_batch(const Gather& g, const Batch& batch, int64_t first, int64_t last) {
  const int64_t bytes = g.out_columns() * g.out_bytes();
  const auto row_of = [&](int64_t i) {
    return g.source.at + (batch.indices ? batch.indices[i] : batch.position + i) * g.source.row;
  };
  for (int64_t i = first; i < last; ++i) {
    const std::uint64_t position = batch.position + i;
    char* const to = batch.out + i * bytes;
    if (!g.augments) {
      take_row(g, row_of(i), batch.indices && i + 1 < last ? row_of(i + 1) : nullptr, to);
      continue;
    }
    take_crop(g, row_of(i), position, to);
    if (g.images.noise != 0) add_noise(g, position, to);
  }
}

inline constexpr int64_t tile_columns = 32;

// Columns [first, first + n) of a few rows, as doubles.
using Tile = double[chunk_rows][tile_columns];
void widen_rows(const Source& source, int64_t row, int64_t rows, int64_t first, int64_t n, Tile& tile) {
  const Convert convert = conversions<double>[int(source.number)];
  const char* const at = source.at + row * source.row;
  if (source.row * source.row >= source.step() * source.step()) {
    for (int64_t r = 0; r < rows; ++r)
      visit_runs(source, at + r * source.row, first, first + n,
                 [&](int64_t c, const char* from, int64_t step, int64_t run) {
                   convert(run, from, step, {}, 0, &tile[r][c - first]);
                 });
    return;
  }
  for (int64_t c = 0, left; c < n; ++c) {  // a column lies closer than a row
    double column[chunk_rows];
    convert(rows, at + source.offset(first + c, left), source.row, {}, 0, column);
    for (int64_t r = 0; r < rows; ++r) tile[r][c] = column[r];
  }
}

// Joins what is in a tile, less `near` of each column, to the moments of its columns.
void join_tile(const Tile& tile, int64_t rows, int64_t n, const double* near, Moments* moments) {
  double sum[tile_columns] = {}, count[tile_columns] = {}, mean[tile_columns], squares[tile_columns] = {};
  double base[tile_columns] = {};
  for (int64_t c = 0; c < n; ++c) base[c] = near[c];
  for (int64_t r = 0; r < rows; ++r)
#pragma omp simd
    for (int64_t c = 0; c < tile_columns; ++c) {
      const double x = tile[r][c];
      sum[c] += x == x ? x - base[c] : 0, count[c] += x == x ? 1. : 0.;
    }
#pragma omp simd
  for (int64_t c = 0; c < tile_columns; ++c) mean[c] = count[c] == 0 ? 0 : sum[c] / count[c];
  for (int64_t r = 0; r < rows; ++r)
#pragma omp simd
    for (int64_t c = 0; c < tile_columns; ++c) {
      const double x = tile[r][c], d = x == x ? (x - base[c]) - mean[c] : 0;
      squares[c] += d * d;
    }
  for (int64_t c = 0; c < n; ++c) moments[c] = joined(moments[c], {count[c], mean[c], squares[c]});
}

// Columns [first, last) of rows [row, end), at most a block of them.
void block_moments(const Source& source, int64_t row, int64_t end, int64_t first, int64_t last,
                   const double* near, Moments* moments) {
  alignas(64) Tile tile = {};
  for (int64_t c = first; c < last; ++c) moments[c - first] = {0, 0, 0};
  for (; row < end; row += chunk_rows) {
    const int64_t rows = least(chunk_rows, end - row);
    for (int64_t c = first; c < last; c += tile_columns) {
      const int64_t n = least(tile_columns, last - c);
      widen_rows(source, row, rows, c, n, tile);
      join_tile(tile, rows, n, near + c, moments + (c - first));
    }
  }
}

}  // namespace
}  // namespace gradstep
