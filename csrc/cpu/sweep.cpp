// Every rule, vectorised by the compiler, over every number format.
//
// Compiled once per instruction set (see CMakeLists.txt). Nothing here may be shared between those objects,
// or the linker could hand AVX-512 code to an older CPU: the namespace is anonymous, what comes from
// elsewhere is inlined, and the table at the end is all that is exported.
#include "sweep.h"

#include <utility>

#include "../gradient.h"
#include "../rules/all.h"
#include "survey.h"
#include "tile.h"

namespace gradstep {
namespace {

// A rectangle of one array. States, master weights and averages lie densely along a row.
struct Window {
  Place p, g;
  int64_t state;  // offset of its first element in the states
  int64_t s_row;
  int64_t rows, cols;
  int64_t tile;  // its number in the call
};

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
Rows<T> prepare(const Gradient<T> gradient, const Window& w, Rows<T> p, Rows<T> g, T* tile) {
  for (int64_t r = 0; r < w.rows; ++r) {
    const T *const p_row = p.at + r * p.row, *const g_row = g.at + r * g.row;
    T* const to = tile + r * w.cols;
#pragma omp simd
    for (int64_t i = 0; i < w.cols; ++i) to[i] = gradient(p_row[i], g_row[i]);
  }
  return {tile, w.cols};
}

// The parameter before a step, and how far the step has taken it.
template <class T>
class Motion {
 public:
  void begin(const Window& w, Rows<T> p) {
    for (int64_t r = 0; r < w.rows; ++r)
      __builtin_memcpy(before_ + r * w.cols, p.at + r * p.row, w.cols * sizeof(T));
  }

  Change end(const Window& w, Rows<T> p) const {
    const int64_t n = w.rows * w.cols;
    const auto square = [](double x) { return x * x; };
    return {lane_sum(n,
                     [&](int64_t i) {
                       return square(double(p.at[i / w.cols * p.row + i % w.cols]) - double(before_[i]));
                     }),
            lane_sum(n, [&](int64_t i) { return square(before_[i]); })};
  }

 private:
  T before_[tile_elements];
};

// Writes the parameter out, and does what an update does after its rule.
template <class T>
void finish(const Tensor& t, const Extras& extras, const Window& w, Rows<T> p, T* tile,
            const Motion<T>& motion) {
  put(w.p, w.rows, w.cols, p);
  if (extras.zero_grads) clear(w.g, w.rows, w.cols);
  if (!t.average && !extras.changes) return;
  const Rows<T> stored = is_short(t.p_storage) ? fetch(w.p, w.rows, w.cols, tile) : p;
  if (extras.changes) extras.changes[w.tile] = motion.end(w, t.master ? p : stored);
  if (!t.average) return;
  const Average<T> average({extras.average_decay}, 1);
  for (int64_t r = 0; r < w.rows; ++r)
    run(average, w.cols, static_cast<T*>(t.average) + w.state + r * w.s_row,
        static_cast<const T*>(stored.at + r * stored.row));
}

template <class Rule, class T, class... S>
void step(const Rule& rule, const Gradient<T>& gradient, const Tensor& t, const Extras& extras,
          const Window& w, S*... s) {
  alignas(64) T p_tile[tile_elements], g_tile[tile_elements];
  Motion<T> motion;
  const Rows<T> p =
      t.master ? Rows<T>{static_cast<T*>(t.master) + w.state, w.s_row} : fetch(w.p, w.rows, w.cols, p_tile);
  Rows<T> g = fetch(w.g, w.rows, w.cols, g_tile);
  if (!gradient.plain()) g = prepare(gradient, w, p, g, g_tile);
  if (extras.changes) motion.begin(w, p);
  for (int64_t r = 0; r < w.rows; ++r)
    run(rule, w.cols, p.at + r * p.row, static_cast<const T*>(g.at + r * g.row),
        s + w.state + r * w.s_row...);
  finish(t, extras, w, p, p_tile, motion);
}

// Where a rectangle begins: so many elements into an array.
Place place(Storage storage, void* array, int64_t at, int64_t row, int64_t col) {
  return {storage, static_cast<char*>(array) + at * bytes_of(storage), row, col};
}

// Calls `visit` with the windows that tiles [first, last) of a tensor are; a `whole` run is one window.
template <class Visit>
void windows(const Tensor& t, int64_t first, int64_t last, bool whole, const Visit& visit) {
  if (!t.layout) {
    const int64_t end = least(last * tile_elements, t.n);
    const int64_t width = whole ? end : tile_elements;
    for (int64_t at = first * tile_elements; at < end; at += width)
      visit(Window{place(t.p_storage, t.p, at, 0, 1), place(t.g_storage, t.g, at, 0, 1), at, 0, 1,
                   least(width, end - at), t.first_tile + at / tile_elements});
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
    visit(Window{place(t.p_storage, t.p, p_at, row.p, col.p), place(t.g_storage, t.g, g_at, row.g, col.g),
                 s_at, row.s, least(l.tile_rows, row.size - r), least(l.tile_cols, col.size - c),
                 t.first_tile + tile});
  }
}

// Tensors of one group and step count share their constants, which cost more than a small tensor's loop.
bool alike(const Tensor& a, const Tensor& b) {
  return a.hyper == b.hyper && a.step == b.step && is_double(a.p_storage) == is_double(b.p_storage);
}

template <template <class> class R, class T>
const Tensor* sweep(const Tensor* t, int64_t& at, int64_t end, const Extras& extras) {
  while (at < end && is_double(t->p_storage) == (sizeof(T) == 8)) {
    const Tensor& like = *t;
    typename R<T>::Hyper hyper;
    __builtin_memcpy(&hyper, like.hyper->rule, sizeof hyper);
    const R<T> rule(hyper, like.step);
    const Gradient<T> gradient(*like.hyper, extras);
    const bool plain = gradient.plain() && !extras.zero_grads && !extras.changes;
    do {
      const int64_t last = least(end, t->first_tile + t->tiles);
      const bool whole = plain && native<T>(t->p_storage) && native<T>(t->g_storage) && !t->average;
      windows(*t, at - t->first_tile, last - t->first_tile, whole, [&](const Window& window) {
        [&]<std::size_t... k>(std::index_sequence<k...>) {
          step(rule, gradient, *t, extras, window, static_cast<T*>(t->s[k])...);
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
  static constexpr Sweep sweeps[][2] = {{sweep<R, float>, sweep<R, double>}...};
};
constexpr Survey surveys[] = {survey<float>, survey<double>};

}  // namespace

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

extern const InstructionSet JOIN(instruction_set_, GRADSTEP_ISA);
constinit const InstructionSet JOIN(instruction_set_, GRADSTEP_ISA) = {TEXT(GRADSTEP_ISA),
                                                                       Table<Rules>::sweeps, surveys};

}  // namespace gradstep
