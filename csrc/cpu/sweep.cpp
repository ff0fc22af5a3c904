// Every rule, vectorised by the compiler, over every number format.
//
// Compiled once per instruction set (see CMakeLists.txt). Nothing here may be shared between those objects,
// or the linker could hand AVX-512 code to an older CPU: the namespace is anonymous, what comes from
// elsewhere is inlined, and the table at the end is all that is exported.
#include "sweep.h"

#include <utility>

#include "../gradient.h"
#include "../norm.h"
#include "../rules/all.h"
#include "combine.h"
#include "rows.h"
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

// The rule is a copy, whose constants then stay in registers.
template <class Rule, class T, class... S>
void run(const Rule rule, int64_t n, T* p, const T* g, S*... s) {
  for (int64_t i = 0, end = n < 64 ? 0 : before_line<T>(p); i < n; end = n) {
#pragma omp simd
    for (int64_t k = i; k < end; ++k) rule(p[k], g[k], s[k]...);
    i = end;
  }
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
    return {
        norm(n,
             [&](int64_t i) { return double(p.at[i / w.cols * p.row + i % w.cols]) - double(before_[i]); }),
        norm(n, [&](int64_t i) { return double(before_[i]); })};
  }

 private:
  template <class Element>
  static double norm(int64_t n, const Element& element) {
    const auto sum_sq = [&](double scale) {
      return lane_sum(n, [&](int64_t i) {
        const double x = element(i) * scale;
        return x * x;
      });
    };
    const double plain = sum_sq(1), unit = sizeof(T) == 8 ? unit_for(plain) : 1;
    return root(unit == 1 ? plain : sum_sq(1 / unit)) * unit;
  }

  T before_[tile_capacity];
};

// Moves the average towards what the parameter holds.
template <class T>
void follow(const Tensor& t, const Extras& extras, const Window& w, Rows<T> stored) {
  const Average<T> average({extras.average_decay}, 1);
  for (int64_t r = 0; r < w.rows; ++r)
    run(average, w.cols, static_cast<T*>(t.average) + w.state + r * w.s_row,
        static_cast<const T*>(stored.at + r * stored.row));
}

template <class Rule, class T, class... S>
void step(const Prepared<Rule, T>& rule, const Tensor& t, const Extras& extras, const Window& w, S*... s) {
  alignas(64) T p_tile[tile_capacity], g_tile[tile_capacity];
  Rows<T> p = t.master && t.g ? Rows<T>{static_cast<T*>(t.master) + w.state, w.s_row}
                              : fetch(w.p, w.rows, w.cols, p_tile);
  const bool rounds = is_short(t.p_storage) && t.g && (t.average || extras.changes);
  if (t.g) {
    const Rows<T> g = fetch(w.g, w.rows, w.cols, g_tile);
    Motion<T> motion;
    if (extras.changes) motion.begin(w, p);
    for (int64_t r = 0; r < w.rows; ++r)
      run(rule, w.cols, p.at + r * p.row, static_cast<const T*>(g.at + r * g.row),
          s + w.state + r * w.s_row...);
    put(w.p, w.rows, w.cols, p);
    if (extras.zero_grads) clear(w.g, w.rows, w.cols);
    const Rows<T> stored = rounds ? fetch(w.p, w.rows, w.cols, p_tile) : p;
    if (extras.changes) extras.changes[w.tile] = motion.end(w, t.master ? p : stored);
    p = stored;
  }
  if (t.average) follow(t, extras, w, p);
}

// Where a rectangle begins: so many elements into an array.
Place place(Storage storage, void* array, int64_t at, int64_t row, int64_t col) {
  return {storage, static_cast<char*>(array) + at * bytes_of(storage), row, col};
}

// Where elements are converted, or pass by several times, memory would rest meanwhile, and a tile is long:
// long arrays go in strips of one, and what comes a tile later is asked for ahead.
constexpr int64_t strip_elements = 256, long_array = 1 << 15;

inline void prefetch(const void* array, int64_t at, int64_t bytes) {
  if (!array) return;
  for (int64_t line = 0; line < bytes; line += 64)
    __builtin_prefetch(static_cast<const char*>(array) + at + line, 1, 3);
}

template <class T>
void prefetch(const Tensor& t, int64_t at, int64_t n) {
  const int p = bytes_of(t.p_storage), g = bytes_of(t.g_storage), s = sizeof(T);
  prefetch(t.p, at * p, n * p), prefetch(t.g, at * g, n * g);
  for (const void* state : t.s) prefetch(state, at * s, n * s);
  prefetch(t.master, at * s, n * s), prefetch(t.average, at * s, n * s);
}

// Calls `visit` with the windows that tiles [first, last) of a tensor are; a `whole` run is one window.
// Those that are `placed` begin where a line does; others at the same elements wherever the array lies.
template <class T, class Visit>
void windows(const Tensor& t, int64_t first, int64_t last, bool whole, bool placed, const Visit& visit) {
  if (!t.layout) {
    const bool in_strips = placed && !whole && t.n >= long_array;
    const int64_t head = placed && native<T>(t.p_storage) ? before_line<T>(t.p) : 0;
    const auto begin = [&](int64_t tile) { return tile ? least(tile * tile_elements + head, t.n) : 0; };
    const int64_t end = last == t.tiles ? t.n : begin(last);
    for (int64_t tile = first; tile < last; tile = whole ? last : tile + 1) {
      const int64_t at = begin(tile), next = whole ? end : least(begin(tile + 1), end);
      const int64_t strip = in_strips ? strip_elements : next - at;
      for (int64_t i = at; i < next; i += strip) {
        if (in_strips) prefetch<T>(t, i + tile_elements, strip);
        visit(Window{place(t.p_storage, t.p, i, 0, 1), place(t.g_storage, t.g, i, 0, 1), i, 0, 1,
                     least(strip, next - i), t.first_tile + tile});
      }
    }
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
    const Prepared<R<T>, T> rule{R<T>(hyper, like.step), Gradient<T>(*like.hyper, extras)};
    const bool plain = !extras.zero_grads && !extras.changes;
    do {
      const int64_t last = least(end, t->first_tile + t->tiles);
      const bool whole = plain && native<T>(t->p_storage) && native<T>(t->g_storage) && !t->average;
      const bool placed = !extras.changes;  // they are summed by window
      windows<T>(*t, at - t->first_tile, last - t->first_tile, whole, placed, [&](const Window& window) {
        if (extras.skip) return t->g ? clear(window.g, window.rows, window.cols) : void();
        [&]<std::size_t... k>(std::index_sequence<k...>) {
          step(rule, *t, extras, window, static_cast<T*>(t->s[k])...);
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
constexpr PassTiles passes[] = {pass_tiles<float>, pass_tiles<double>};

}  // namespace

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

extern const InstructionSet JOIN(instruction_set_, GRADSTEP_ISA);
constinit const InstructionSet JOIN(instruction_set_, GRADSTEP_ISA) = {
    TEXT(GRADSTEP_ISA), Table<Rules>::sweeps, surveys, passes, select, gather_batch, block_moments};

}  // namespace gradstep
