// How a parameter and its gradient lie in memory, as tiles: the units in which work is shared out and done.
#pragma once
#include <cstdint>

namespace gradstep {

inline constexpr int max_dims = 65;                  // NumPy's own limit, and the parts of complex numbers
inline constexpr std::int64_t tile_elements = 1024;  // a tile of each operand fits in the L1 cache together
inline constexpr std::int64_t line_elements = 16;    // at most, in a cache line

// How many pieces of a size it takes to hold `n`.
constexpr std::int64_t pieces(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }

// One axis: its length, and how many elements apart neighbours are in parameter, gradient and states.
struct Axis {
  std::int64_t size, p, g, s;
};

// Axes sorted by the parameter's stride and merged where all operands allow. A tile is a rectangle of
// `tile_rows` x `tile_cols` in the plane of `row` and `col`; `outer` axes count the planes. `col` is the axis
// along which the parameter lies closest, `row` the one for the gradient: a transposed gradient is then read
// in whole cache lines.
struct Layout {
  Axis outer[max_dims];
  int outer_dims = 0;
  Axis row{1, 0, 0, 0}, col{1, 1, 1, 1};
  std::int64_t tile_rows = 1, tile_cols = tile_elements;
  std::int64_t tiles = 0;
  Axis axes[max_dims];  // all of them, the parameter's widest stride first
  int dims = 0;

  // Strides are counted in elements; states are dense in the parameter's order of axes.
  Layout(int dims, const std::int64_t* shape, const std::int64_t* p, const std::int64_t* g);

  // Parameter, gradient and states are all one run of memory.
  bool flat() const { return outer_dims == 0 && row.size == 1 && col.p == 1 && col.g == 1; }

  // Where element `at`, counted in the order of the states, of the gradient lies; `left` elements from there
  // on lie along the last axis.
  std::int64_t gradient_at(std::int64_t at, std::int64_t& left) const {
    std::int64_t where = 0, size = 1;
    for (int d = dims; d-- > 0; size *= axes[d].size) {
      const std::int64_t i = at / size % axes[d].size;
      if (d == dims - 1) left = axes[d].size - i;
      where += i * axes[d].g;
    }
    return where;
  }
};

}  // namespace gradstep
