// Sums in the fixed order of lanes.h, so with the bits of the CPU: 16 lanes take every 16th term each, 4
// lanes a thread, so a sum a quad of neighbouring threads. All threads of a warp take part.
#pragma once
#include <cuda_runtime.h>

#include "../layout.h"

namespace gradstep {

inline constexpr unsigned whole_warp = 0xffffffff;

// `add(i, lanes)` adds terms i to i + 3 to 4 lanes, those beyond the last as nothing. The sum is the first
// thread's of the quad.
template <class Add>
__device__ __forceinline__ double quad_sum(std::int64_t n, const Add& add) {
  double lanes[4] = {};
#pragma unroll 4
  for (std::int64_t i = threadIdx.x % 4 * 4; i < n; i += 16) add(i, lanes);
#pragma unroll
  for (int k = 0; k < 4; ++k) lanes[k] += __shfl_down_sync(whole_warp, lanes[k], 2);
#pragma unroll
  for (int k = 0; k < 4; ++k) lanes[k] += __shfl_down_sync(whole_warp, lanes[k], 1);
  return lanes[0] + lanes[2] + (lanes[1] + lanes[3]);
}

// The first thread's of the quad, to all four.
__device__ __forceinline__ double of_quad(double x) {
  return __shfl_sync(whole_warp, x, int(threadIdx.x % 32 / 4 * 4));
}

template <class X, class Join>
__device__ __forceinline__ X joined_in_quad(X x, const Join& join) {
  x = join(x, __shfl_xor_sync(whole_warp, x, 1));
  return join(x, __shfl_xor_sync(whole_warp, x, 2));
}

// Sums `n` terms by a whole block: runs as long as a tile, then their sums likewise, until one is left;
// `room` is for those. Every thread gets the sum.
template <class Term>
__device__ double block_sum(std::int64_t n, const Term& term, double* room) {
  const std::int64_t quads = blockDim.x / 4, quad = threadIdx.x / 4;
  const double* from = nullptr;  // the terms themselves
  do {
    const std::int64_t runs = (n + tile_elements - 1) / tile_elements;
    for (std::int64_t begin = 0; begin < runs; begin += quads) {
      const std::int64_t first = (begin + quad) * tile_elements;
      const std::int64_t left = first < n ? n - first : 0;
      const double sum =
          quad_sum(left < tile_elements ? left : tile_elements, [&](std::int64_t i, double* lanes) {
            for (int k = 0; k < 4; ++k)
              if (i + k < left) lanes[k] += from ? from[first + i + k] : term(first + i + k);
          });
      if (threadIdx.x % 4 == 0 && left > 0) room[begin + quad] = sum;
    }
    __syncthreads();
    from = room, room += runs, n = runs;
  } while (n > 1);
  return n ? from[0] : 0;
}

}  // namespace gradstep
