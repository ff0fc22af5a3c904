// Every rule, vectorised by the compiler, over every number format.
//
// Compiled once per instruction set (see CMakeLists.txt). Nothing here may be shared between those objects,
// or the linker could hand AVX-512 code to an older CPU: the namespace is anonymous, what comes from
// elsewhere is inlined, and the table at the end is all that is exported.
#include "sweep.h"

#include <utility>

#include "../gradient.h"
#include "../rules/all.h"

namespace gradstep {
namespace {

using std::int64_t;

// A rectangle of one array. States lie densely along a row.
template <class T>
struct Window {
  T* p;
  const T* g;
  int64_t state;  // offset of its first element in the states
  int64_t rows, cols;
  int64_t p_row, p_col, g_row, g_col, s_row;
};

// Copies a rectangle into a dense tile and back, along the axis on which the memory side lies closer.
template <class T, class Copy>
void visit(int64_t rows, int64_t cols, int64_t row, int64_t col, const Copy& copy) {
  if (row * row < col * col) {
    for (int64_t c = 0; c < cols; ++c)
      for (int64_t r = 0; r < rows; ++r) copy(r * cols + c, r * row + c * col);
  } else {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) copy(r * cols + c, r * row + c * col);
  }
}

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// Elements of `n` that come before the next cache line. Vectors that straddle two lines halve AVX-512's
// speed.
template <class T>
int64_t before_line(const T* p, int64_t n) {
  constexpr int64_t line = 64 / sizeof(T);
  return n < 4 * line ? 0 : -(reinterpret_cast<std::uintptr_t>(p) / sizeof(T)) % line;
}

template <class Rule, class T, class... S>
void run(const Rule& rule, int64_t n, T* p, const T* g, S*... s) {
  for (int64_t i = 0, end = before_line(p, n); i < n; end = n) {
#pragma omp simd
    for (int64_t k = i; k < end; ++k) rule(p[k], g[k], s[k]...);
    i = end;
  }
}

template <class T>
void prepare(const Gradient<T> gradient, int64_t n, const T* p, const T* g, T* to) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] = gradient(p[i], g[i]);
}

// What does not lie in a row, or is not the gradient that the rule wants, goes through a tile in L1.
template <class Rule, class T, class... S>
void step(const Rule& rule, const Gradient<T>& gradient, Window<T> w, S*... s) {
  alignas(64) T p_tile[tile_elements], g_tile[tile_elements];
  T* const p_home = w.p;
  const int64_t p_row = w.p_row, p_col = w.p_col;

  if (p_col != 1) {
    visit<T>(w.rows, w.cols, p_row, p_col, [&](int64_t tile, int64_t at) { p_tile[tile] = p_home[at]; });
    w.p = p_tile, w.p_row = w.cols;
  }
  if (w.g_col != 1) {
    visit<T>(w.rows, w.cols, w.g_row, w.g_col, [&](int64_t tile, int64_t at) { g_tile[tile] = w.g[at]; });
    w.g = g_tile, w.g_row = w.cols;
  }
  if (!gradient.plain()) {
    for (int64_t r = 0; r < w.rows; ++r)
      prepare(gradient, w.cols, w.p + r * w.p_row, w.g + r * w.g_row, g_tile + r * w.cols);
    w.g = g_tile, w.g_row = w.cols;
  }
  for (int64_t r = 0; r < w.rows; ++r)
    run(rule, w.cols, w.p + r * w.p_row, w.g + r * w.g_row, s + w.state + r * w.s_row...);
  if (p_col != 1)
    visit<T>(w.rows, w.cols, p_row, p_col, [&](int64_t tile, int64_t at) { p_home[at] = p_tile[tile]; });
}

// Calls `visit` with the windows that tiles [first, last) of a tensor are.
template <class T, class Visit>
void windows(const Tensor& t, int64_t first, int64_t last, bool whole, const Visit& visit) {
  T* const p = static_cast<T*>(t.p);
  const T* const g = static_cast<const T*>(t.g);
  if (!t.layout) {  // neighbouring tiles are one run
    const int64_t end = least(last * tile_elements, t.n);
    const int64_t width = whole ? end : tile_elements;
    for (int64_t at = first * tile_elements; at < end; at += width)
      visit(Window<T>{p + at, g + at, at, 1, least(width, end - at), 0, 1, 0, 1, 0});
    return;
  }
  const Layout& l = *t.layout;
  const Axis &row = l.row, &col = l.col;
  const int64_t row_tiles = (row.size + l.tile_rows - 1) / l.tile_rows;
  const int64_t col_tiles = (col.size + l.tile_cols - 1) / l.tile_cols;
  for (int64_t tile = first; tile < last; ++tile) {
    const int64_t c = tile % col_tiles * l.tile_cols;
    const int64_t r = tile / col_tiles % row_tiles * l.tile_rows;
    int64_t plane = tile / col_tiles / row_tiles;
    int64_t p_at = r * row.p + c * col.p, g_at = r * row.g + c * col.g, s_at = r * row.s + c * col.s;
    for (int d = l.outer_dims; d-- > 0; plane /= l.outer[d].size) {
      const int64_t i = plane % l.outer[d].size;
      p_at += i * l.outer[d].p, g_at += i * l.outer[d].g, s_at += i * l.outer[d].s;
    }
    visit(Window<T>{p + p_at, g + g_at, s_at, least(l.tile_rows, row.size - r),
                    least(l.tile_cols, col.size - c), row.p, col.p, row.g, col.g, row.s});
  }
}

// Tensors of one group and step count share their constants, which cost more than a small tensor's loop.
bool alike(const Tensor& a, const Tensor& b) {
  return a.hyper == b.hyper && a.step == b.step && a.format == b.format;
}

template <template <class> class R, class T>
const Tensor* sweep(const Tensor* t, int64_t& at, int64_t end) {
  const Format format = t->format;
  while (at < end && t->format == format) {
    const Tensor& like = *t;
    typename R<T>::Hyper hyper;
    __builtin_memcpy(&hyper, like.hyper->rule, sizeof hyper);
    const R<T> rule(hyper, like.step);
    const Gradient<T> gradient(*like.hyper);
    do {
      const int64_t last = least(end, t->first_tile + t->tiles);
      windows<T>(*t, at - t->first_tile, last - t->first_tile, gradient.plain(),
                 [&](const Window<T>& window) {
                   [&]<std::size_t... k>(std::index_sequence<k...>) {
                     step(rule, gradient, window, static_cast<T*>(t->s[k])...);
                   }(std::make_index_sequence<R<T>::states.size()>{});
                 });
      at = last;
      ++t;
    } while (at < end && alike(*t, like));
  }
  return t;
}

template <class L>
struct Table;
template <template <class> class... R>
struct Table<List<R...>> {
  static constexpr Sweep sweeps[][formats] = {{sweep<R, float>, sweep<R, double>}...};
};

}  // namespace

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

extern const InstructionSet JOIN(instruction_set_, GRADSTEP_ISA);
constinit const InstructionSet JOIN(instruction_set_, GRADSTEP_ISA) = {TEXT(GRADSTEP_ISA),
                                                                       Table<Rules>::sweeps};

}  // namespace gradstep
