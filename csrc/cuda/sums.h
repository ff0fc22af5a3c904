// Sums in the fixed order of lanes.h, so with the bits of the CPU: 16 lanes take every 16th term each, 4
// lanes a thread, so a sum a quad of neighbouring threads. All threads of a warp take part.
#pragma once
#include <cuda_runtime.h>

#include "../layout.h"

namespace gradstep {

inline constexpr unsigned whole_warp = 0xffffffff;

// What the lanes of a quad come to; the sum is the first thread's.
__device__ __forceinline__ double sum_of_lanes(double (&lanes)[4]) {
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
    const std::int64_t runs = pieces(n, tile_elements);
    ROLLED
    for (std::int64_t begin = 0; begin < runs; begin += quads) {
      const std::int64_t first = (begin + quad) * tile_elements;
      const std::int64_t end = first + tile_elements < n ? first + tile_elements : n;
      double lanes[4] = {};
#pragma unroll 2
      for (std::int64_t i = first + threadIdx.x % 4 * 4; i < end; i += 16)
#pragma unroll
        for (int k = 0; k < 4; ++k)
          if (i + k < end) lanes[k] += from ? from[i + k] : term(i + k);
      const double sum = sum_of_lanes(lanes);
      if (threadIdx.x % 4 == 0 && first < n) room[begin + quad] = sum;
    }
    __syncthreads();
    from = room, room += runs, n = runs;
  } while (n > 1);
  return n ? from[0] : 0;
}

}  // namespace gradstep
