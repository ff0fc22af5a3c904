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

// The rule is a copy, whose constants then stay in registers.
template <class Rule, class T, class... S>
void run(const Rule rule, int64_t n, T* p, const T* g, S*... s) {
  for (int64_t i = 0, end = n < 64 ? 0 : before_line<T>(p); i < n; end = n) {
#pragma omp simd
    for (int64_t k = i; k < end; ++k) rule(p[k], g[k], s[k]...);
    i = end;
  }
}

// A rule behind what happens to its gradient.
template <class Rule, class T>
struct Prepared {
  Rule rule;
  Gradient<T> gradient;

  template <class... S>
  HD void operator()(T& p, T g, S&... s) const {
    rule(p, gradient(p, g), s...);
  }
};

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
  T before_[tile_capacity];
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
void step(const Prepared<Rule, T>& rule, const Tensor& t, const Extras& extras, const Window& w, S*... s) {
  alignas(64) T p_tile[tile_capacity], g_tile[tile_capacity];
  Motion<T> motion;
  const Rows<T> p =
      t.master ? Rows<T>{static_cast<T*>(t.master) + w.state, w.s_row} : fetch(w.p, w.rows, w.cols, p_tile);
  const Rows<T> g = fetch(w.g, w.rows, w.cols, g_tile);
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
template <class T, class Visit>
void windows(const Tensor& t, int64_t first, int64_t last, bool whole, const Visit& visit) {
  if (!t.layout) {
    const int64_t head = native<T>(t.p_storage) ? before_line<T>(t.p) : 0;
    const auto begin = [&](int64_t tile) { return tile ? least(tile * tile_elements + head, t.n) : 0; };
    const int64_t end = last == t.tiles ? t.n : begin(last);
    for (int64_t tile = first; tile < last; tile = whole ? last : tile + 1) {
      const int64_t at = begin(tile), next = whole ? end : least(begin(tile + 1), end);
      visit(Window{place(t.p_storage, t.p, at, 0, 1), place(t.g_storage, t.g, at, 0, 1), at, 0, 1, next - at,
                   t.first_tile + tile});
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
      windows<T>(*t, at - t->first_tile, last - t->first_tile, whole, [&](const Window& window) {
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

}  // namespace

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

extern const InstructionSet JOIN(instruction_set_, GRADSTEP_ISA);
constinit const InstructionSet JOIN(instruction_set_, GRADSTEP_ISA) = {TEXT(GRADSTEP_ISA),
                                                                       Table<Rules>::sweeps, surveys};

}  // namespace gradstep
