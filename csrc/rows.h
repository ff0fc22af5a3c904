// Rows of data sets: gathered into batches, standardised and augmented on the way; and the moments of their
// columns. Each backend defines the verbs.
#pragma once
#include <type_traits>

#include "draws.h"
#include "layout.h"

namespace gradstep {

// What elements of a data set are.
enum class Number : std::uint8_t { f32, f64, bf16, f16, u8, i8, u16, i16, u32, i32, u64, i64 };
inline constexpr int numbers = 12;

// Rows of `columns` elements. Strides are in bytes; axes of a row that lie behind one another are one.
struct Source {
  const char* at;
  std::int64_t row, columns;
  int dims = 0;
  std::int64_t shape[max_dims], strides[max_dims];
  Number number;
  std::int64_t itemsize;

  void add_axis(std::int64_t size, std::int64_t stride) {
    if (size == 1) return;
    if (dims && strides[dims - 1] == size * stride) {
      shape[dims - 1] *= size, strides[dims - 1] = stride;
      return;
    }
    shape[dims] = size, strides[dims++] = stride;
  }

  // Where column `c` lies in its row; `left` columns from there on lie along the last axis.
  HD std::int64_t offset(std::int64_t c, std::int64_t& left) const {
    std::int64_t where = 0;
    left = 1;
    for (int d = dims; d-- > 0; c /= shape[d]) {
      const std::int64_t i = c % shape[d];
      if (d == dims - 1) left = shape[d] - i;
      where += i * strides[d];
    }
    return where;
  }
  HD std::int64_t step() const { return dims ? strides[dims - 1] : itemsize; }  // from a column to the next
};

// Rows as images, and what is drawn anew for each: where a crop of it begins, and whether that is mirrored.
// What lies outside is filled.
struct Images {
  std::int64_t height, width, channels, out_height, out_width, shift_y, shift_x;
  bool flip;
  double noise;           // standard deviation of what is added to each element
  unsigned char fill[8];  // an element of the result

  HD std::int64_t out_columns() const { return out_height * out_width * channels; }
};

struct Crop {
  std::int64_t y, x;  // of its first pixel
  bool mirrored;
};

HD std::int64_t drawn(std::uint32_t word, std::int64_t size, std::int64_t out_size, std::int64_t shift) {
  const auto places = std::uint64_t(size - out_size + 2 * shift + 1);
  return std::int64_t(word * places >> 32) - shift;
}

HD Crop crop_of(const Images& images, const Draws& draws, std::uint64_t position) {
  const Words words = draws.at(Use::placing, position);
  return {drawn(words.w[1], images.height, images.out_height, images.shift_y),
          drawn(words.w[2], images.width, images.out_width, images.shift_x), images.flip && words.w[0] >> 31};
}

// What elements become: copies, or floats or doubles.
enum class Result : std::uint8_t { f32, f64, copy };

// What numbers are standardised in on their way to T; those of 16 bits come as floats.
template <class X, class T>
using Arithmetic = std::conditional_t<std::is_same_v<X, float>, T, double>;

// (x - shift) * factor; in floats the shift is the sum of two numbers, so that nothing of it is lost.
template <class A>
HD A standardised(A x, A shift, [[maybe_unused]] A shift_low, A factor) {
  if constexpr (sizeof(A) == 4)
    return ((x - shift) - shift_low) * factor;
  else
    return (x - shift) * factor;
}

struct Gather {
  Source source;
  Result result;
  const void *shift, *shift_low, *factor;  // of each column, in the arithmetic; or null
  bool augments;
  Images images;
  Draws draws;

  HD std::int64_t out_columns() const { return augments ? images.out_columns() : source.columns; }
  HD std::int64_t out_bytes() const {
    return result == Result::copy ? source.itemsize : result == Result::f64 ? 8 : 4;
  }
};

// Rows are counted as positions in the epoch; `indices` says which they are, or, where null, they are in
// order.
struct Batch {
  std::int64_t position, count;
  const std::int64_t* indices;
  char* out;
};

// Of a column: how many elements are numbers, their mean, and the sum of squares of what they differ from it
// by.
struct Moments {
  double count, mean, squares;
};

// Those of elements side by side and of others behind them: T. F. Chan, G. H. Golub and R. J. LeVeque,
// "Updating formulae and a pairwise algorithm for computing sample variances", COMPSTAT 1982.
HD Moments joined(const Moments& a, const Moments& b) {
  const double count = a.count + b.count, delta = b.mean - a.mean, share = b.count / count;
  const Moments both{count, a.mean + delta * share,
                     a.squares + b.squares + delta * delta * (a.count * share)};
  return a.count == 0 ? b : b.count == 0 ? a : both;
}

// Rows whose moments are taken in two passes, while they are in cache; and those of which such are joined in
// turn, before blocks are.
inline constexpr std::int64_t chunk_rows = 64, block_rows = 1024;

// Writes which rows come at `count` positions from `position` on.
void select_rows(const Selection& selection, std::int64_t position, std::int64_t count, std::int64_t* indices,
                 int device, void* stream);
void gather_rows(const Gather& gather, const Batch& batch, int device, void* stream);
// Of the first `n` rows, less `near` of each column; waits.
void column_moments(const Source& source, std::int64_t n, const double* near, Moments* moments, int device,
                    void* stream);

}  // namespace gradstep
