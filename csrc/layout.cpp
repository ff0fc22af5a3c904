#include "layout.h"

#include <algorithm>
#include <cstdlib>

namespace gradstep {
namespace {

// Axes longer than one, the parameter's widest stride first, with the strides of a dense state.
int sorted_axes(Axis* axes, int dims, const std::int64_t* shape, const std::int64_t* p,
                const std::int64_t* g) {
  int n = 0;
  for (int d = 0; d < dims; ++d)
    if (shape[d] != 1) axes[n++] = {shape[d], p[d], g[d], 0};
  std::stable_sort(axes, axes + n,
                   [](const Axis& a, const Axis& b) { return std::abs(a.p) > std::abs(b.p); });
  for (std::int64_t dense = 1, d = n; d-- > 0; dense *= axes[d].size) axes[d].s = dense;
  return n;
}

bool merges(const Axis& outer, const Axis& inner) {
  return outer.p == inner.p * inner.size && outer.g == inner.g * inner.size;
}

int merged_axes(Axis* axes, int n) {
  int kept = 0;
  for (int d = 0; d < n; ++d) {
    if (kept && merges(axes[kept - 1], axes[d])) {
      axes[d].size *= axes[kept - 1].size;
      --kept;
    }
    axes[kept++] = axes[d];
  }
  return kept;
}

}  // namespace

Layout::Layout(int dims, const std::int64_t* shape, const std::int64_t* p, const std::int64_t* g) {
  this->dims = merged_axes(axes, sorted_axes(axes, dims, shape, p, g));
  std::copy(axes, axes + this->dims, outer);
  int n = this->dims;
  if (n > 0) col = outer[--n];
  bool transposed = false;
  if (n > 0) {
    Axis* closest = std::min_element(
        outer, outer + n, [](const Axis& a, const Axis& b) { return std::abs(a.g) < std::abs(b.g); });
    transposed = std::abs(closest->g) < std::abs(col.g);
    if (!transposed) closest = outer + n - 1;
    row = *closest;
    std::copy(closest + 1, outer + n, closest);
    --n;
  }
  outer_dims = n;
  tile_cols = std::clamp<std::int64_t>(col.size, 1, transposed ? 64 : tile_elements);
  tile_rows = std::min(row.size, tile_elements / tile_cols);
  tiles = pieces(row.size, tile_rows) * pieces(col.size, tile_cols);
  for (int d = 0; d < n; ++d) tiles *= outer[d].size;
}

}  // namespace gradstep
